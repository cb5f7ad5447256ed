"""Model packages, and the libraries that compute their networks."""

MAY_IMPORT = ("base", "process", "pyramid", "store")
