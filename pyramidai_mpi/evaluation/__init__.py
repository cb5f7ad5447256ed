"""What a pyramid costs in missed tumour and gains in time, measured on slides with ground truth."""
