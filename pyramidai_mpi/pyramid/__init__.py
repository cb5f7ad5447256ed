"""The method on plain arrays: which tiles exist, what is decided, the tree; no files, no MPI."""

MAY_IMPORT = ("base",)
