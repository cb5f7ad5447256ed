"""Networks trained and converted; the only room that knows torch."""

MAY_IMPORT = ("base", "process", "models", "store", "analyses", "truth", "run")
