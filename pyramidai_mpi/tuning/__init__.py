"""Thresholds from annotated slides."""

MAY_IMPORT = ("base", "pyramid", "models", "store", "truth")
