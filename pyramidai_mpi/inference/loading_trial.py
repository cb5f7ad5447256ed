"""Trying out a model's networks in a child process: checked, loaded, and run once on a black batch.

A network is a program. Its file can crash the loader (functions that call themselves), ask for any amount of memory, or
never come to an end.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.inference.opening import read_package
from pyramidai_mpi.trial import Trial, conduct

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.inference.package import ModelLevel, ModelPackage

_SECONDS = 120
_MEMORY_BYTES = 8 << 30


def try_loading(folder: Path, *, seconds: int = _SECONDS, memory_bytes: int = _MEMORY_BYTES) -> Trial:
    """Start the trial of all networks of a model's folder."""
    module = "pyramidai_mpi.inference.loading_trial"
    return Trial(folder, module, [os.fspath(folder)], seconds=seconds, memory_bytes=memory_bytes)


def _load_and_run(arguments: Sequence[str]) -> None:
    package = read_package(Path(arguments[0]), check_files=False)  # hashing is safe, and done elsewhere meanwhile
    # the ranks wait for this, most of them without work for their cores
    with ThreadPoolExecutor(package.n_levels) as threads:
        trials = [threads.submit(_try_network, level, package) for level in package.levels]
    for trial in trials:
        trial.result()


def _try_network(level: ModelLevel, package: ModelPackage) -> None:
    from pyramidai_mpi.inference.network_check import check_network
    from pyramidai_mpi.inference.onnx_engine import OnnxEngine

    check_network(level, package)
    OnnxEngine(level, package)


def main() -> None:
    """The child's work."""
    conduct(_load_and_run)
