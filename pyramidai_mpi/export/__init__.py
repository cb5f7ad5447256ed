"""Pictures and files for people, made from a stored result."""
