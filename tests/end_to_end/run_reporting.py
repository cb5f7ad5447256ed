"""Run slides on all ranks; rank 0 prints phases and counts of tiles as JSON. Usage: MODE FOLDER SLIDE..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mpi4py import MPI

from pyramidai_mpi.base.settings import ModelChoice, Output, RunSettings, SlideInput
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.run.run import run_slides

mode, folder, *slides = sys.argv[1:]
reports = []
each = [
    RunSettings(
        SlideInput(Path(slide)),
        ModelChoice(default_model()),
        Output(Path(folder, f"{Path(slide).stem}.h5"), resume=True),
        mode=Mode(mode),
    )
    for slide in slides
]
run_slides(MPI.COMM_WORLD, each, reports.append)
if MPI.COMM_WORLD.rank == 0:
    tiles = [report.tiles for report in reports if not report.phase]
    print(
        json.dumps(
            {
                "phases": list(dict.fromkeys(report.phase for report in reports if report.phase)),
                "first": [tiles[0].done, tiles[0].total, tiles[0].is_exact],
                "last": [tiles[-1].done, tiles[-1].total, tiles[-1].share],
                "most": max(report.share or 0 for report in tiles),
                "totals": [report.total for report in tiles if report.is_exact],
                "left_s": [report.left_s for report in reports if not report.phase][-1],
            }
        )
    )
