"""One run after the other, each with another call of the disk failing: run_failing_disk.py FOLDER SLIDE MODEL ERRNO STICKY

Starts under `failing_disk.so`. Prints one line of JSON a run: which call failed, what the run said, what was there then,
and what came of resuming it. Each run is a process of its own, forked from one that has loaded the libraries.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mpi4py

mpi4py.rc.initialize = False

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi import claiming, job
from pyramidai_mpi.claiming import finished_before
from pyramidai_mpi.cli import main as cli_main
from pyramidai_mpi.config import RunSettings
from pyramidai_mpi.errors import PyramidError
from pyramidai_mpi.pipeline import run_slide
from pyramidai_mpi.store.reader import read_digest

if TYPE_CHECKING:
    from collections.abc import Callable

folder, slide, model = (Path(word) for word in sys.argv[1:4])
error_number, sticky = int(sys.argv[4]), sys.argv[5] == "sticky"
disk = ctypes.CDLL(None)
disk.disk_arm.argtypes = [ctypes.c_char_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
disk.disk_calls.restype = ctypes.c_long
disk.disk_victim.restype = ctypes.c_char_p


class NoTrial(contextlib.nullcontext[Any]):
    """The child processes that try slide and model write nothing here; without them a run takes a tenth of the time."""

    def __init__(self, *_arguments: object) -> None:
        super().__init__(self)

    def check(self) -> None:
        return


job.try_opening = job.try_loading = claiming.try_opening = NoTrial  # type: ignore[assignment]


def run(settings: RunSettings, call: int = -1, below: Path | None = None) -> dict[str, Any]:
    """A run as the command does it: what it wanted to leave with, and what its process did leave with."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return {"calls": 0, "victim": ""} | (json.loads(said) if said else {}) | {"code": ended}
    os.close(reading)
    MPI.Init()
    if below is not None:
        disk.disk_arm(os.fsencode(below), call, -1 if sticky else call, error_number)

    def say() -> None:
        calls, victim = disk.disk_calls(), disk.disk_victim().decode()
        os.write(writing, json.dumps({"calls": calls, "victim": victim}).encode())

    cli_main.run_command_line = lambda _arguments: say_and(say, lambda: exit_code_of(settings))  # type: ignore
    cli_main.main([])
    raise AssertionError("main has returned")


def say_and(say: Callable[[], None], work: Callable[[], int]) -> int:
    """Do the work, then tell the parent of the calls that it made."""
    code = work()
    say()
    return code


def exit_code_of(settings: RunSettings) -> int:
    """Exit code of a run."""
    try:
        code = finished_before(settings)
        if code is None:
            report = run_slide(MPI.COMM_SELF, settings)
            assert report is not None
            code = report.exit_code
    except PyramidError as error:
        assert "\n" not in str(error)
        return int(error.exit_code)
    return int(code)


def attempt(call: int) -> dict[str, Any]:
    """A run whose call of this number fails (none for -1), and its resumption."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    settings = RunSettings(slide=slide, model=model, output=out / "out.h5", batch_size=8)
    found = run(settings, call, out)
    first = read_digest(settings.output) if settings.output.exists() else None
    again = run(replace(settings, resume=True))
    return found | {
        "digest": first,
        "code_of_resume": again["code"],
        "digest_of_resume": read_digest(settings.output) if settings.output.exists() else None,
        "left_over": sorted(path.name for path in out.iterdir() if path.name != "out.h5"),
    }


undisturbed = attempt(-1)
print(json.dumps(undisturbed), flush=True)
for number in range(int(sys.argv[6]) if len(sys.argv) > 6 else 0, undisturbed["calls"]):
    print(json.dumps(attempt(number)), flush=True)
