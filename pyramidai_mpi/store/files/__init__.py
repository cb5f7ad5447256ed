"""Files on a disk: names, locks, spools."""
