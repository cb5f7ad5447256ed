"""The command line, one module a command."""

MAY_IMPORT = (
    "base",
    "process",
    "sched",
    "ranks",
    "slides",
    "models",
    "store",
    "truth",
    "explain",
    "run",
    "patches",
    "export",
    "view",
    "evaluation",
    "classification",
    "tuning",
    "simulate",
    "synth",
    "training",
)
