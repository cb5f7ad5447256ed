"""Training over ranks: what it costs, that its bits hold, and whether it helps."""
