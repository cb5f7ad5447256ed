"""Trying in a child process whether windows can share a package's networks: a network is a program."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.process.sandbox import Trial, run_under_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 120
_MEMORY_BYTES = 8 << 30


def sharing_in_words(folder: Path) -> list[str]:
    """Whether overlapping windows can share the networks of a model's folder: one line a level, level 0 first.

    Raises
    ------
    PyramidError
        What the child raised, or became of it; see `process.sandbox.Trial.check`.
    """
    module = "pyramidai_mpi.models.dense.trial"
    with Trial(folder, module, [os.fspath(folder)], seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as trial:
        return [str(line) for line in json.loads(trial.check())]


def _try(arguments: Sequence[str]) -> str:
    from pyramidai_mpi.models.dense.sharing import sharing_of

    (folder,) = arguments
    return json.dumps([found.in_words for found in sharing_of(read_package(Path(folder), check_files=False))])


def main() -> None:
    """The child's work."""
    run_under_limits(_try)
