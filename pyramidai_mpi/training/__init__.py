"""Networks trained and converted; the only room that knows torch."""

MAY_IMPORT = ("base", "process", "ranks", "models", "store", "patches", "analyses", "truth", "run")
