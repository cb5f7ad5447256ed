"""Extract patches slowly on these ranks: run_patches.py FOLDER SECONDS-A-PATCH [OPTION...] SLIDE...

With ``--resume`` it goes on; with ``--stop`` the job's time is up once a rank has done three batches; with
``--drawn=N`` N cells of each label are drawn by the truth beside the slides, of those that are not white;
``--pixels=raw`` as there.
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.analyses import extract  # noqa: E402
from pyramidai_mpi.base.errors import StoppedError  # noqa: E402
from pyramidai_mpi.base.patch_order import PatchLabels, PatchLimits, PatchOrder, parse_pixels  # noqa: E402
from pyramidai_mpi.base.settings import Regions, RunSettings  # noqa: E402
from pyramidai_mpi.process.stop import STOP_BEFORE_END_S, StopWish  # noqa: E402
from pyramidai_mpi.run.extraction import extract_patches  # noqa: E402

folder, seconds, *rest = sys.argv[1:]
slides = [Path(word) for word in rest if not word.startswith("--")]
drawn = [int(word.partition("=")[2]) for word in rest if word.startswith("--drawn=")]
pixels, quality = parse_pixels(next((word[9:] for word in rest if word.startswith("--pixels=")), "stored"))
order = PatchOrder(96, 64, level=0, pixels=pixels, jpeg_quality=quality)
if drawn:
    limits, labels = PatchLimits(max_white=0.5), PatchLabels(slides[0].parent)
    order = replace(order, size=64, n_random=drawn[0], seed=3, limits=limits, labels=labels)
each = [
    RunSettings.of(
        path,
        Path(),
        Path(folder) / f"{path.stem}.patches.h5",
        resume="--resume" in rest,
        batch_size=4,
        regions=Regions(no_tissue=True),
    )
    for path in slides
]
look = extract.CellsOfSlide.look
stop = StopWish.of_job(STOP_BEFORE_END_S + 3600) if "--stop" in rest else None
n_batches = 0


def slow(self: extract.CellsOfSlide, tiles: Any, *others: Any) -> Any:
    global n_batches
    time.sleep(float(seconds) * len(tiles))
    n_batches += 1
    if stop is not None and n_batches == 4:
        stop._end = time.monotonic()
    return look(self, tiles, *others)


extract.CellsOfSlide.look = slow  # type: ignore[method-assign]
try:
    outcomes = extract_patches(MPI.COMM_WORLD, each, order, stop=stop)
except StoppedError as error:
    sys.exit(f"stopped: {error}")
for outcome in outcomes or ():
    print(int(outcome.exit_code), outcome.line)
