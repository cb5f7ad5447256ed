"""For whoever tests a reader, an engine, an analysis: a cluster in memory."""

MAY_IMPORT = ("base", "process", "pyramid", "sched", "slides", "models", "store", "analyses", "run")
