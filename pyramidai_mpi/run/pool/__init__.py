"""The pool of work: slides and tiles as tasks, owners, messages between them."""
