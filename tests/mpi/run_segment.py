"""Segment slides slowly on these ranks: run_segment.py FOLDER MODEL SECONDS-A-BLOCK [OPTION...] SLIDE...

With ``--resume`` it goes on; with ``--stop`` the job's time is up once a rank has done three blocks.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.analyses import segment  # noqa: E402
from pyramidai_mpi.base.errors import StoppedError  # noqa: E402
from pyramidai_mpi.base.segment_order import SegmentOrder  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.process.stop import STOP_BEFORE_END_S, StopWish  # noqa: E402
from pyramidai_mpi.run.segmentation import segment_slides  # noqa: E402

folder, model, seconds, *rest = sys.argv[1:]
slides = [Path(word) for word in rest if not word.startswith("--")]
each = [
    RunSettings.of(path, Path(model), Path(folder) / f"{path.stem}_mask.tif", resume="--resume" in rest, batch_size=1)
    for path in slides
]
look = segment.BlocksOfSlide.look
stop = StopWish.of_job(STOP_BEFORE_END_S + 3600) if "--stop" in rest else None
n_blocks = 0


def slow(self: segment.BlocksOfSlide, tiles: Any, *others: Any) -> Any:
    global n_blocks
    time.sleep(float(seconds) * len(tiles))
    n_blocks += 1
    if stop is not None and n_blocks == 4:
        stop._end = time.monotonic()
    return look(self, tiles, *others)


segment.BlocksOfSlide.look = slow
try:
    outcomes = segment_slides(MPI.COMM_WORLD, each, SegmentOrder(block=64, probability=True), stop=stop)
except StoppedError as error:
    if MPI.COMM_WORLD.rank == 0:
        print(f"stopped: {error}")
    sys.exit(error.exit_code)
print(f"did {n_blocks} blocks")
for outcome in outcomes or ():
    print(int(outcome.exit_code), outcome.line)
