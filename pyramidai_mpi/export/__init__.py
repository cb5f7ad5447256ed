"""What is made of a result file for other programs and for people."""

MAY_IMPORT = ("base", "pyramid", "slides", "store")
