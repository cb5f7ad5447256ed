"""Whether a network has learnt what people measure in nuclei, and whether its answer turns on it."""
