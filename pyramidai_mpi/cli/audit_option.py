"""The option that has some tiles computed twice."""

AUDIT_HELP = (
    "Compute P per cent of the tiles, chosen by chance, again on another rank and compare the bits. Where two ranks "
    "differ, no result is written (exit code 74), and what the one that was wrong did is set aside for --resume to do "
    "again. Same result."
)
