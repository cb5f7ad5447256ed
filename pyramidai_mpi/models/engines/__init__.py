"""Libraries that compute a network, behind one interface."""
