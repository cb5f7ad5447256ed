"""How evenly the ranks work, and what the scheduler costs."""
