"""A run, from slides to result files: one pool of work, whether of one slide or of many."""

MAY_IMPORT = (
    "base",
    "process",
    "pyramid",
    "sched",
    "ranks",
    "slides",
    "models",
    "store",
    "explain",
    "analyses",
    "truth",
)
