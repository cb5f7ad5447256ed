"""Files: results, journals, and how either reaches the disk whole."""

MAY_IMPORT = ("base", "process", "pyramid")
