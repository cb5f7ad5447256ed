"""What is done to the tiles of an open slide; one file each."""

MAY_IMPORT = ("base", "pyramid", "slides", "models", "explain")
