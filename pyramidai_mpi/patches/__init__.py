"""Patches read from their files, without the slide: pixels, groups, what is sound."""

MAY_IMPORT = ("base", "process", "pyramid", "slides", "store", "export")
