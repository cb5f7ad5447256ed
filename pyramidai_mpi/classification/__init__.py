"""Whole slides: tumour or not."""

MAY_IMPORT = ("base", "pyramid", "store", "evaluation")
