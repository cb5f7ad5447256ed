"""For whoever tests a reader, an engine or an export: contract tests, and a cluster in memory."""

MAY_IMPORT = ("base", "models", "sched", "slides")
