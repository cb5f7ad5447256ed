"""Thresholds, and which cells to refine, from annotated slides."""

MAY_IMPORT = ("base", "pyramid", "models", "store", "truth")
