"""Run again and again, each time with another call of the disk failing, and resume.

Usage: run_failing_disk.py FOLDER SLIDE MODEL ERRNO (sticky|once) STRIDE, under `failing_disk.so`. Prints one line of
JSON a run: which call failed, what the run said, what was there then, and what came of resuming it.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mpi4py import MPI

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.run import networks, opening
from pyramidai_mpi.run.run import run_slide
from pyramidai_mpi.store.results.reader import read_digest

folder, slide, model = (Path(word) for word in sys.argv[1:4])
error_number, sticky, stride = int(sys.argv[4]), sys.argv[5] == "sticky", int(sys.argv[6])
disk = ctypes.CDLL(None)
disk.disk_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
disk.disk_calls.restype = ctypes.c_long
disk.disk_victim.restype = ctypes.c_char_p


class NoTrial(contextlib.nullcontext[Any]):
    """The child processes that try slide and model write nothing here; without them a run takes a tenth of the time."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        super().__init__(self)

    def check(self) -> str:
        return ""


opening.try_opening = networks.try_loading = NoTrial  # type: ignore[assignment]


def exit_code_of(settings: RunSettings) -> int:
    """What the command would leave with."""
    try:
        report = run_slide(MPI.COMM_SELF, settings)
    except PyramidError as error:
        assert "\n" not in str(error)
        return int(error.exit_code)
    assert report is not None
    return int(report.exit_code)


def attempt(call: int) -> dict[str, Any]:
    """A run whose call of this number fails (none for -1), and its resumption."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    settings = RunSettings.of(slide=slide, model=model, output=out / "out.h5", batch_size=64)
    disk.disk_arm(os.fsencode(f"{out}/"), call, -1 if sticky else call, error_number)
    code = exit_code_of(settings)
    calls, victim = disk.disk_calls(), disk.disk_victim().decode()
    disk.disk_disarm()
    first = read_digest(settings.output.path) if settings.output.path.exists() else None
    again = exit_code_of(settings.with_output(resume=True))
    return {
        "calls": calls,
        "victim": victim,
        "code": code,
        "digest": first,
        "code_of_resume": again,
        "digest_of_resume": read_digest(settings.output.path) if settings.output.path.exists() else None,
        "left_over": sorted(path.name for path in out.iterdir() if path.name != "out.h5"),
    }


undisturbed = attempt(-1)
print(json.dumps(undisturbed), flush=True)
for number in range(0, undisturbed["calls"], stride):
    print(json.dumps(attempt(number)), flush=True)
