"""What all ranks do together: collectives, and going on when some are lost."""

MAY_IMPORT = ("base", "process", "sched")
