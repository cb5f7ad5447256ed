"""What attributions lie on, and whether the network agrees."""
