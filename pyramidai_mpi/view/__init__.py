"""A result over its slide in the browser: a server on this machine alone, and its page."""

MAY_IMPORT = ("base", "pyramid", "slides", "store", "export", "truth")
