"""Explain tiles slowly on these ranks: run_explain.py FOLDER MODEL METHOD,... SECONDS-A-UNIT [OPTION...] SLIDE...

Each method has its folder in FOLDER.
With ``--resume`` it goes on; with ``--stop`` the job's time is up once a rank has done three units.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.analyses import explain  # noqa: E402
from pyramidai_mpi.base.errors import StoppedError  # noqa: E402
from pyramidai_mpi.base.explain_order import ExplainOrder, TilesWanted  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.process.stop import STOP_BEFORE_END_S, StopWish  # noqa: E402
from pyramidai_mpi.run.explaining import explain_slides  # noqa: E402

folder, model, methods, seconds, *rest = sys.argv[1:]
slides = [Path(word) for word in rest if not word.startswith("--")]
wanted = TilesWanted(points=tuple((64 * col + 5, 64 * row + 5) for col, row in ((0, 0), (3, 1), (6, 2), (1, 4))))
look = explain.UnitsOfSlide.look
stop = StopWish.of_job(STOP_BEFORE_END_S + 3600) if "--stop" in rest else None
n_units = 0


def slow(self: explain.UnitsOfSlide, tiles: Any, *others: Any) -> Any:
    global n_units
    time.sleep(float(seconds) * len(tiles))
    n_units += len(tiles)
    if stop is not None and n_units == 4:
        stop._end = time.monotonic()
    return look(self, tiles, *others)


explain.UnitsOfSlide.look = slow
for method in methods.split(","):
    each = [
        RunSettings.of(
            path,
            Path(model),
            Path(folder) / method / f"{path.stem}.explained.h5",
            resume="--resume" in rest,
            leave_finished=True,
        )
        for path in slides
    ]
    order = ExplainOrder(method)
    if method == "rise":
        order = ExplainOrder(method, until=0.99, masks=1100, options={"grid": 4})
    try:
        outcomes = explain_slides(MPI.COMM_WORLD, each, order, wanted, [None] * len(each), stop=stop)
    except StoppedError as error:
        if MPI.COMM_WORLD.rank == 0:
            print(f"stopped: {error}")
        sys.exit(error.exit_code)
    for outcome in outcomes or ():
        print(int(outcome.exit_code), outcome.line)
print(f"did {n_units} units")
