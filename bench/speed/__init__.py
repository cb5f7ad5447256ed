"""Seconds and megabytes: tiles, start-up, exports, other programs' loops."""
