"""Pixels of a slide at the spacing that a model asks for."""

MAY_IMPORT = ("base", "process", "pyramid", "store")
