"""What a cohort takes on more cores than are here; scripts for SLURM."""
