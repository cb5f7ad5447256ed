"""The real command with tiles that take their time: run_slowly.py SECONDS-A-TILE ARGUMENTS..."""

from __future__ import annotations

import sys
import time
from typing import Any

from pyramidai_mpi.analyses.classify import SlideClassifier
from pyramidai_mpi.analyses.dense import SlideDense
from pyramidai_mpi.analyses.extract import CellsOfSlide
from pyramidai_mpi.cli.main import main

seconds = float(sys.argv[1])


def slowed(analysis: Any) -> None:
    """Let an analysis take its time."""
    real = analysis.look

    def slow(self: Any, tiles: Any, *others: Any) -> Any:
        time.sleep(seconds * len(tiles))
        return real(self, tiles, *others)

    analysis.look = slow


slowed(SlideClassifier)
slowed(SlideDense)
slowed(CellsOfSlide)
main(sys.argv[2:])
