"""The commands of the documentation, run as a reader would: all of a page, in order, in one folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

from pyramidai_mpi.testing.launch import DEFAULT_ENVIRONMENT, REPOSITORY, TAG, launcher, processes_of
from tests.ready import ready

if TYPE_CHECKING:
    from pathlib import Path


def blocks_of(page: Path) -> list[str]:
    """The page's bash blocks in order, but those that CI runs word for word, after a comment ``<!-- ci: NAME -->``."""
    found = re.findall(
        r"^(<!-- ci: .*-->\n)?```bash\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return [block for comment, block in found if not comment]


def run_commands(script: str, folder: Path, binaries: Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    """Run `script` in `folder`; its first failing command ends it, and nothing of it outlives this call.

    Parameters
    ----------
    binaries
        An empty folder: for ``pyramidai``, ``python`` and ``mpirun`` as installed, whatever else is installed. The
        first runs in a child of a process that has loaded the program's modules (`tests.ready`).
    """
    python = f'"{sys.executable}"'
    place = binaries / "place"
    for name, command in (
        ("pyramidai", f'{python} -I -S "{REPOSITORY}/tests/ask_ready.py" "$(cat "{place}")"'),
        ("python", python),
        ("mpirun", f'"{launcher()}"'),
    ):
        (binaries / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (binaries / name).chmod(0o755)
    environment = DEFAULT_ENVIRONMENT | os.environ
    environment["PATH"] = f"{binaries}{os.pathsep}{environment['PATH']}"
    environment["PYTHONPATH"] = str(REPOSITORY)
    environment[TAG] = tag = uuid.uuid4().hex
    try:
        with ready(environment) as socket:
            place.write_text(str(socket))
            done = subprocess.run(
                ["bash", "-euxo", "pipefail", "-c", script],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
    finally:
        for pid in processes_of(tag):  # only after a timeout
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    print(done.stdout, done.stderr)
    return done
