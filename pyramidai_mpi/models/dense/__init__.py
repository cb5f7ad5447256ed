"""A block of sliding windows as one fully convolutional pass over the region that they share."""
