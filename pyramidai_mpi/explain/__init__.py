"""What in a tile speaks for a class: attributions on plain arrays, how repeatable and how faithful they are."""

MAY_IMPORT = ("base",)
