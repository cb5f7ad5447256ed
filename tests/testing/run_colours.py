"""The tiny analysis on these ranks: run_colours.py MODEL RESULTS SECONDS-A-TILE [--resume] SLIDE..."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.models.read import read_package  # noqa: E402
from pyramidai_mpi.testing import tile_colours  # noqa: E402

model, results, seconds, *rest = sys.argv[1:]
slides = [Path(word) for word in rest if word != "--resume"]
each = [
    RunSettings.of(path, Path(model), Path(results) / f"{path.stem}.npz", resume="--resume" in rest, batch_size=4)
    for path in slides
]
look = tile_colours.ColoursOfSlide.look


def slow(self: tile_colours.ColoursOfSlide, tiles: Any, *others: Any) -> Any:
    time.sleep(float(seconds) * len(tiles))
    return look(self, tiles, *others)


tile_colours.ColoursOfSlide.look = slow  # type: ignore[method-assign]
ends = tile_colours.run_colours(MPI.COMM_WORLD, each, read_package(Path(model)))
for number, end in sorted(ends.items()):
    print(number, end.exit_code, end.line)
