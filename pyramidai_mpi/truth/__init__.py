"""What pathologists drew: annotations, and the labels of tiles that follow."""

MAY_IMPORT = ("base", "pyramid", "store")
