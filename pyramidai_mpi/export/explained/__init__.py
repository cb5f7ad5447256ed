"""What is made of explained tiles for other programs and for people."""
