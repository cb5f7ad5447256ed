"""What happens when something goes wrong: kills, full disks, damaged files, two runs at once."""
