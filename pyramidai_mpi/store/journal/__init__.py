"""What is done so far, so that nothing is lost."""
