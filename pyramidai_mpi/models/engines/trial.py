"""Trying out a model's networks in a child process: checked, loaded, and run on made-up tiles and black ones.

A network is a program. Its file can crash the loader (functions that call themselves), ask for any amount of memory, or
never come to an end.
"""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles, settle_batch_shape
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.process.sandbox import Trial, run_under_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.models.aggregator_entry import AggregatorEntry
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

_SECONDS = 120
_MEMORY_BYTES = 8 << 30
_SETTLE, _RUN = "settle", "run"
_SEVERAL_TILES = 5


def try_loading(
    folder: Path, *, settle: bool = True, seconds: int = _SECONDS, memory_bytes: int = _MEMORY_BYTES
) -> Trial:
    """Start the trial of all networks of a model's folder.

    Parameters
    ----------
    folder
        The package.
    settle
        Whether to settle the batch shape in onnxruntime as well, for `found_in_trial`; otherwise each network is run
        once, with black tiles.
    seconds, memory_bytes
        Limits of the child.
    """
    module = "pyramidai_mpi.models.engines.trial"
    arguments = [os.fspath(folder), _SETTLE if settle else _RUN]
    return Trial(folder, module, arguments, seconds=seconds, memory_bytes=memory_bytes)


def found_in_trial(answer: str, batches: Sequence[int]) -> list[tuple[int, int]] | None:
    """Batch shape and number of features of each level's network in onnxruntime, level 0 first.

    Parameters
    ----------
    answer
        What the child answered; None is returned for an answer that says nothing, or makes no sense.
    batches
        Of each of the package's levels, how many tiles its network is given at a time where they do not matter.
    """
    try:
        found = [(int(shape), int(features)) for shape, features in json.loads(answer.partition("\n")[0])]
    except (ValueError, TypeError):
        return None
    if len(found) != len(batches):
        return None
    sound = all(shape in (1, batch) and n >= 0 for (shape, n), batch in zip(found, batches, strict=True))
    return found if sound else None


def most_tiles_in_trial(answer: str) -> int:
    """How many tiles the package's aggregator can look at together, 0 for any number; see `found_in_trial`."""
    try:
        return max(0, int(answer.partition("\n")[2]))
    except ValueError:
        return 0


def _load_and_run(arguments: Sequence[str]) -> str:
    folder, wish = arguments
    package = read_package(Path(folder), check_files=False)  # hashing is safe, and done elsewhere meanwhile
    # the ranks wait for this, most of them without work for their cores
    with ThreadPoolExecutor(package.n_levels) as threads:
        trials = [threads.submit(_try_network, level, package, settle=wish == _SETTLE) for level in package.levels]
    answer = json.dumps([trial.result() for trial in trials])
    if package.aggregator is None:
        return answer
    return f"{answer}\n{_try_aggregator(package.aggregator, package)}"


def _try_aggregator(entry: AggregatorEntry, package: ModelPackage) -> int:
    """Run an aggregator on the features of made-up tiles, of one and of several; how many it can look at, 0 for any."""
    from pyramidai_mpi.models.check import check_aggregator, most_tiles_together
    from pyramidai_mpi.models.engines.aggregator import AggregatorEngine
    from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine

    encoder = OnnxEngine(package.levels[0], package)
    check_aggregator(entry, encoder.n_features)
    engine = AggregatorEngine(entry, encoder.n_features)
    tiles, places = sample_tiles(_SEVERAL_TILES, package.tile_size), sample_positions(_SEVERAL_TILES)
    _, features = encoder.predict(tiles, features=True, positions=places)
    assert features is not None
    for n_tiles in (1, _SEVERAL_TILES):
        engine.aggregate(features[:n_tiles])
    return most_tiles_together(entry, encoder.n_features)


def _try_network(level: ModelLevel, package: ModelPackage, *, settle: bool) -> tuple[int, int] | None:
    from pyramidai_mpi.models.check import check_network
    from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine

    check_network(level, package)
    engine = OnnxEngine(level, package, probe=not settle)
    if not settle:
        return None
    return settle_batch_shape(engine, package.tile_size), engine.n_features


def main() -> None:
    """The child's work."""
    run_under_limits(_load_and_run)
