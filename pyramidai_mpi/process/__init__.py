"""The process itself and its host: how it ends, its memory, signals, children that try what may crash."""

MAY_IMPORT = ("base",)
