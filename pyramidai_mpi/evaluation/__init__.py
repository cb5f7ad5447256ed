"""A result against ground truth."""

MAY_IMPORT = ("base", "store", "truth")
