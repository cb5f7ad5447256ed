"""Commands of a user who is not root and whom the system does not list, on machines that lack this or that."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.testing.launch import REPOSITORY, mpirun
from tests.end_to_end.conftest import Finished

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

USER, OTHER = 23456, 34567
"""Numbers that no list of users has."""
_RUN = REPOSITORY / "tests" / "run_as_user.py"


@cache
def _why_not() -> str:
    if os.geteuid() != 0:
        return "to become another user takes root"
    done = subprocess.run(["unshare", "--mount", "true"], capture_output=True, text=True, check=False)
    return done.stderr.strip()


def as_user(folder: Path, changes: str = "", user: int = USER) -> tuple[str, ...]:
    """Words that run a command as a user, for whom nothing but the folder is sure to be there; see `run_as_user`."""
    if _why_not():
        pytest.skip(_why_not())
    return ("unshare", "--mount", sys.executable, str(_RUN), str(user), str(folder), changes, "--")


def give(folder: Path, user: int = USER) -> None:
    """Make a folder and all below a user's own."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)


def run_as_user(
    folder: Path,
    words: Sequence[str | os.PathLike[str]],
    changes: str = "",
    *,
    user: int = USER,
    ranks: int | None = None,
    env: Mapping[str, str | None] | None = None,
    before: Sequence[str] = (),
) -> Finished:
    """Run the program in a folder, as its user.

    Parameters
    ----------
    env
        Variables to set, None to unset; without a word of it there is no home and no folder for what is kept.
    before
        A command that runs the program, such as ``sh -c 'umask 077; exec "$@"' sh``.
    """
    wanted = {"HOME": None, "XDG_CACHE_HOME": None, **(env or {})}
    unset = [word for name, value in wanted.items() if value is None for word in ("-u", name)]
    set_now = [f"{name}={value}" for name, value in wanted.items() if value is not None]
    under = [*as_user(folder, changes, user), "env", *unset, *set_now, *before]
    words = ["-m", "pyramidai_mpi", *words]
    if ranks is not None:
        job = mpirun(ranks, words, under=under, cwd=folder)
        assert not job.left_over
        return Finished(job.returncode, job.stdout, job.stderr)
    environment = dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)}
    command = [*under, sys.executable, *map(os.fspath, words)]
    done = subprocess.run(
        command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False
    )
    out, err = (stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
    print(" ".join(command), out, err, sep="\n")
    return Finished(done.returncode, out, err)
