"""Encoders of tiles and aggregators of slides trained together on slides' labels, over ranks."""
