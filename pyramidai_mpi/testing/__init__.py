"""For whoever tests a reader, an engine, an analysis: a cluster in memory; ranks started, watched and killed."""

MAY_IMPORT = ("base", "process", "pyramid", "sched", "slides", "models", "store", "analyses", "run")
