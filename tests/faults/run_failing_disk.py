"""Run again and again, each time with another call of the disk failing, and resume.

Usage: run_failing_disk.py FOLDER SLIDE MODEL ERRNO (sticky|once|look) STRIDE, under the campaign's `surroundings.so`.
Prints one line of JSON a run: which call failed, what the run said, what was there then, and what came of resuming it.
With ``look`` the calls are those that only look, and the run goes on from half the work.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mpi4py import MPI

from bench.faults.journalled import known_tiles
from pyramidai_mpi.analyses.classify import SlideClassifier
from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.run import networks, opening
from pyramidai_mpi.run.run import run_slide
from pyramidai_mpi.store.results.reader import read_digest

folder, slide, model = (Path(word) for word in sys.argv[1:4])
error_number, how, stride = int(sys.argv[4]), sys.argv[5], int(sys.argv[6])
disk = ctypes.CDLL(None)
for name in ("disk_calls", "disk_looks"):
    getattr(disk, name).restype = ctypes.c_long
disk.disk_victim.restype = ctypes.c_char_p
FOR_EVER = NEVER = -1
BATCH = 8 if how == "look" else 64
out = folder / "out"
settings = RunSettings.of(slide=slide, model=model, output=out / "out.h5", batch_size=BATCH)
tiles_looked_at = 0
really_look = SlideClassifier.look


class NoTrial(contextlib.nullcontext[Any]):
    """The child processes that try slide and model write nothing here; without them a run takes a tenth of the time."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        super().__init__(self)

    def check(self) -> str:
        return ""


def look(self: SlideClassifier, tiles: Any, *others: Any) -> Any:
    """As the real one; they are counted."""
    global tiles_looked_at
    tiles_looked_at += len(tiles)
    return really_look(self, tiles, *others)


opening.try_opening = networks.try_loading = NoTrial  # type: ignore[assignment]
SlideClassifier.look = look  # type: ignore[method-assign]


def arm(*, call: int = NEVER, last: int = NEVER, look: int = NEVER, number: int = error_number) -> None:
    """From now on these calls fail; without a number of one all succeed, and are counted."""
    disk.disk_below(os.fsencode(f"{out}/"))
    disk.disk_arm(ctypes.c_long(call), ctypes.c_long(last), ctypes.c_int(number))
    disk.looks_arm(ctypes.c_long(look))


def exit_code_of(these: RunSettings) -> int:
    """What the command would leave with."""
    try:
        report = run_slide(MPI.COMM_SELF, these)
    except PyramidError as error:
        assert "\n" not in str(error)
        return int(error.exit_code)
    assert report is not None
    return int(report.exit_code)


def digest() -> str | None:
    """Of the result, where there is one."""
    return read_digest(settings.output.path) if settings.output.path.exists() else None


def seen_and_resumed(first: RunSettings, **failing: int) -> dict[str, Any]:
    """A run some of whose calls fail, and its resumption."""
    global tiles_looked_at
    tiles_looked_at = 0
    arm(**failing)
    code = exit_code_of(first)
    calls, looks, victim = disk.disk_calls(), disk.disk_looks(), disk.disk_victim().decode()
    disk.disk_below(b"")
    found = digest()
    again = exit_code_of(settings.with_output(resume=True))
    return {
        "calls": calls,
        "looks": looks,
        "victim": victim,
        "code": code,
        "digest": found,
        "code_of_resume": again,
        "digest_of_resume": digest(),
        "tiles": tiles_looked_at,
        "left_over": sorted(path.name for path in out.iterdir() if path.name != "out.h5"),
    }


def attempt(call: int) -> dict[str, Any]:
    """A run whose call of this number fails (none for -1)."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return seen_and_resumed(settings, call=call, last=FOR_EVER if how == "sticky" else call)


def attempt_from_half(half: Path, number: int) -> dict[str, Any]:
    """A run that goes on from half the work, whose look of this number fails (none for -1)."""
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(half, out)
    known = known_tiles([settings.output.path], lambda _: 0)
    seen = seen_and_resumed(settings.with_output(resume=True), look=number)
    return seen | {"tiles": known + seen["tiles"]}


undisturbed = attempt(NEVER)
n_attempts = undisturbed["calls"]
if how == "look":
    shutil.rmtree(out)
    out.mkdir()
    arm(call=n_attempts // 2, number=errno.ENOSPC)
    assert exit_code_of(settings) == 74
    disk.disk_below(b"")
    half = out.rename(folder / "half")
    looks = attempt_from_half(half, NEVER)["looks"]
    undisturbed["looks"] = n_attempts = looks
print(json.dumps(undisturbed), flush=True)
for number in range(0, n_attempts, stride):
    print(json.dumps(attempt_from_half(half, number) if how == "look" else attempt(number)), flush=True)
