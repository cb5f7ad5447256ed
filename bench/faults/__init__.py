"""Kills, flipped bits, damaged slides; the same bits from everywhere."""
