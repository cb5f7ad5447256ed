"""Thresholds from annotated slides."""

MAY_IMPORT = ("base", "models", "store", "truth")
