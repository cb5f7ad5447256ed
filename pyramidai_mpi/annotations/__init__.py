"""Ground truth: annotations of many formats, and the label that they give each tile of a result."""
