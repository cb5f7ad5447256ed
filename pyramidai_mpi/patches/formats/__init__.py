"""Patches in the formats of other programs: exports of files of patches, and files made of what others wrote."""
