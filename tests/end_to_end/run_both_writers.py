"""Analyse a slide once and write its result twice: run_both_writers.py SLIDE MODEL SERIAL.h5 PARALLEL.h5"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mpi4py import MPI

from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.run import run, write
from pyramidai_mpi.run.write import write_result

slide, model, serial, parallel = (Path(word) for word in sys.argv[1:5])

write.ROWS_A_ROUND = 7  # so that there are many rounds, the last of them without rows for some ranks


def write_both(comm: MPI.Intracomm, result: Any, _output: Path, **options: Any) -> None:
    write_result(comm, result, serial, **options | {"parallel": False})
    write_result(comm, result, parallel, **options | {"parallel": True})


run.write_result = write_both
run.run_slide(MPI.COMM_WORLD, RunSettings.of(slide=slide, model=model, output=serial))
