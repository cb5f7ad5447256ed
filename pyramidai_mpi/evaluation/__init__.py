"""A result against ground truth."""

MAY_IMPORT = ("base", "pyramid", "store", "truth")
