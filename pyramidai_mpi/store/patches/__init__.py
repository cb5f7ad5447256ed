"""Files of patches: places, what is known of each, and the slide's own encoded tiles."""
