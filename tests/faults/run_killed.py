"""Kill a run before each of its calls that change names or flush, and resume it.

Usage: run_killed.py FOLDER BEFORE SLIDE MODEL. What lies in the folder BEFORE is there when the run starts, which is
with ``--resume``. Prints one line of JSON a run: before which call it was killed, and what came of resuming it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import h5py  # noqa: F401 - here rather than in each child

from pyramidai_mpi.cli.main import main
from pyramidai_mpi.run import networks, opening, run  # noqa: F401
from pyramidai_mpi.slides import segmentation  # noqa: F401
from pyramidai_mpi.store.results.reader import read_digest
from tests.ready import leave

folder, before, slide, model = (Path(word) for word in sys.argv[1:5])
output = folder / "out.h5"
CALLS = ("link", "unlink", "replace", "rename", "mkdir", "rmdir", "fsync", "open")


class NoTrial(contextlib.nullcontext[Any]):
    """The child processes that try slide and model write nothing here."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        super().__init__(self)

    def check(self) -> str:
        return ""


opening.try_opening = networks.try_loading = NoTrial  # type: ignore[assignment]


def die_before(call: int, note: int) -> None:
    """Kill this process before its call of this number; what it is goes into the file `note` first."""
    seen = 0

    def deadly(name: str) -> Any:
        real = getattr(os, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal seen
            is_relative = options.get("dir_fd") is not None
            concerns = name == "fsync" or is_relative or str(folder) in os.fsdecode(arguments[0])
            if name == "open" and not (len(arguments) > 1 and arguments[1] & os.O_CREAT):
                concerns = False
            if concerns:
                if seen == call:
                    os.write(note, f"{name} {arguments[0]}".encode())
                    os.kill(os.getpid(), signal.SIGKILL)
                seen += 1
            return real(*arguments, **options)

        return counted

    for name in CALLS:
        setattr(os, name, deadly(name))


def attempt(call: int | None) -> tuple[int, str]:
    """How a run in a child of this process ended, and before which call it was killed."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        if call is not None:
            die_before(call, writing)
        try:
            main([str(slide), "--model", str(model), "-o", str(output), "--resume", "-q"])
        except SystemExit as end:
            leave(int(end.code or 0))
    os.close(writing)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as said:
        return os.waitstatus_to_exitcode(status), said.read()


number, code = 0, -signal.SIGKILL
while code == -signal.SIGKILL:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(before, folder)
    code, killed_before = attempt(number)
    found = read_digest(output) if output.exists() else None
    again, _ = attempt(None)
    line = {
        "killed_before": killed_before,
        "code": code,
        "digest": found,
        "code_of_resume": again,
        "digest_of_resume": read_digest(output) if output.exists() else None,
        "left_over": sorted(path.name for path in folder.iterdir() if path.name != "out.h5"),
    }
    print(json.dumps(line), flush=True)
    number += 1
