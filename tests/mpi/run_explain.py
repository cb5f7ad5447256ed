"""Explain tiles slowly on these ranks: run_explain.py FOLDER MODEL METHOD,... SECONDS-A-UNIT [OPTION...] SLIDE...

Each method has its folder in FOLDER.
With ``--resume`` it goes on; with ``--stop`` the job's time is up once a rank has done three units.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.analyses.explain import UnitsOfSlide  # noqa: E402
from pyramidai_mpi.base.errors import StoppedError  # noqa: E402
from pyramidai_mpi.base.explain_order import ExplainOrder, TilesWanted  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.process.stop import STOP_BEFORE_END_S, StopWish  # noqa: E402
from pyramidai_mpi.run.explaining import explain_slides  # noqa: E402
from tests.explaining import untried_files  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Sequence

ORDERS = {
    "gradcam": ExplainOrder("gradcam"),
    "rise": ExplainOrder("rise", until=0.99, masks=1100, options={"grid": 4}),
}
WANTED = TilesWanted(points=tuple((64 * col + 5, 64 * row + 5) for col, row in ((0, 0), (3, 1), (6, 2), (1, 4))))


def explain(
    comm: MPI.Intracomm,
    folder: Path,
    model: Path,
    methods: Sequence[str],
    slides: Sequence[Path],
    *,
    seconds: float = 0,
    resume: bool = False,
    stop: StopWish | None = None,
) -> tuple[list[tuple[int, str]], int]:
    """Exit code and line of each slide by each method, none but on rank 0, and how many units this rank has done."""
    look = UnitsOfSlide.look
    n_units = 0

    def slow(self: UnitsOfSlide, tiles: Any, *others: Any) -> Any:
        nonlocal n_units
        time.sleep(seconds * len(tiles))
        n_units += len(tiles)
        if stop is not None and n_units == 4:
            stop._end = time.monotonic()
        return look(self, tiles, *others)

    ended = []
    with untried_files(), patch.object(UnitsOfSlide, "look", slow):
        for method in methods:
            each = [
                RunSettings.of(
                    path, model, folder / method / f"{path.stem}.explained.h5", resume=resume, leave_finished=True
                )
                for path in slides
            ]
            outcomes = explain_slides(comm, each, ORDERS[method], WANTED, [None] * len(each), stop=stop)
            ended += [(int(outcome.exit_code), outcome.line) for outcome in outcomes or ()]
    return ended, n_units


def main() -> None:
    """The program."""
    folder, model, methods, seconds, *rest = sys.argv[1:]
    stop = StopWish.of_job(STOP_BEFORE_END_S + 3600) if "--stop" in rest else None
    slides = [Path(word) for word in rest if not word.startswith("--")]
    try:
        ended, n_units = explain(
            MPI.COMM_WORLD, Path(folder), Path(model), methods.split(","), slides,
            seconds=float(seconds), resume="--resume" in rest, stop=stop,
        )  # fmt: skip
    except StoppedError as error:
        if MPI.COMM_WORLD.rank == 0:
            print(f"stopped: {error}")
        sys.exit(error.exit_code)
    # in one piece: ranks write to one stream
    lines = [*(f"{code} {line}" for code, line in ended), f"did {n_units} units"]
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
