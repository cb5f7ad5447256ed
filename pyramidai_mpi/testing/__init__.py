"""For whoever tests a reader, an engine, an analysis or an export: contracts, a cluster in memory, ranks to kill."""

MAY_IMPORT = ("base", "process", "pyramid", "sched", "slides", "models", "store", "analyses", "run")
