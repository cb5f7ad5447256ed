"""One file a format behind one protocol, and the choice among them."""
