"""Training over ranks whose weights do not depend on how many there are: what all kinds of training stand on."""
