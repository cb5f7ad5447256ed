"""What may be chosen of how tile networks are trained, for the command line, which loads no library for its help."""

LOSSES = ("bce", "focal")
OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("constant", "cosine", "steps")
KEEPS = ("best", "last")
PRECISIONS = ("float32", "bfloat16")
