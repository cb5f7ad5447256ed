"""The real command with tiles that take their time: run_slowly.py SECONDS-A-TILE ARGUMENTS..."""

from __future__ import annotations

import sys
import time
from typing import Any

from pyramidai_mpi.analyses.classify import SlideClassifier
from pyramidai_mpi.cli.main import main

seconds = float(sys.argv[1])
real = SlideClassifier.look


def slow(self: SlideClassifier, tiles: Any, *others: Any) -> Any:
    time.sleep(seconds * len(tiles))
    return real(self, tiles, *others)


SlideClassifier.look = slow  # type: ignore[method-assign]
main(sys.argv[2:])
