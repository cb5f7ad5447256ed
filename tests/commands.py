"""Many commands of the program, one after the other, each in a child of one process that has loaded all: quick.

Used as ``commands(...)`` by tests, which starts this file as a program.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pyramidai_mpi.testing.launch import DEFAULT_ENVIRONMENT, REPOSITORY
from tests.end_to_end.conftest import Finished
from tests.ready import leave


def commands(*each: list[str | os.PathLike[str]], timeout: float = 120) -> list[Finished]:
    """How each command ended; its words are those after ``pyramidai``."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.commands"],
        input=json.dumps([[os.fspath(word) for word in words] for words in each]),
        env=DEFAULT_ENVIRONMENT | dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = [Finished(*one) for one in json.loads(done.stdout)]
    for words, one in zip(each, ended, strict=True):
        print("$ pyramidai", *words, f"-> {one.returncode}\n", one.stdout, one.stderr)
    return ended


class _NoTrial(contextlib.nullcontext[Any]):
    """A trial of a slide or a model in a child process is the business of other tests."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        super().__init__(self)

    def check(self) -> str:
        return ""


def _in_a_child(words: list[str], folder: Path) -> tuple[int, str, str]:
    out, err = folder / "out", folder / "err"
    child = os.fork()
    if not child:
        for path, descriptor in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        leave(main_code(words))
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), out.read_text(), err.read_text()


def main_code(words: list[str]) -> int:
    """Exit code of a command in this process."""
    from pyramidai_mpi.cli.main import main

    try:
        main(words)
    except SystemExit as end:
        return int(end.code or 0)
    return 0


if __name__ == "__main__":
    import h5py  # noqa: F401 - here rather than in each child

    from pyramidai_mpi.run import cells, extraction, networks, opening, part_files, run  # noqa: F401
    from pyramidai_mpi.slides import segmentation  # noqa: F401

    opening.try_opening = networks.try_loading = cells.try_opening = _NoTrial  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps([_in_a_child(one, Path(scratch)) for one in json.load(sys.stdin)]))
