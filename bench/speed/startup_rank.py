"""One rank of the real command, noting when it reached what on its way to the first tile; see `bench.speed.startup`."""

from __future__ import annotations

import json
import os
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

NOTES = "PYRAMIDAI_BENCH_NOTES"
"""Names the file that gets the notes, with the rank's number after it."""

REACHED = [
    ("python runs", "", ""),
    ("MPI runs", "pyramidai_mpi.cli.session", "_start_mpi"),
    ("program imported, model read", "pyramidai_mpi.run.run", "agree_on_package"),
    ("slide open, tissue known", "pyramidai_mpi.run.run", "open_by_all"),
    ("networks tried", "pyramidai_mpi.run.run", "settle_backend"),
    ("networks loaded", "pyramidai_mpi.run.run", "build_engines"),
    ("journals read", "pyramidai_mpi.run.run", "read_journals"),
    ("first tile", "", ""),
]
"""What is reached when a function returns (the first and the last apart), in order."""

_notes: list[tuple[str, float, float]] = []


def main() -> None:
    """Run the command line in ``sys.argv`` with notes."""
    _note("python runs")
    from pyramidai_mpi.cli.launcher import prepare_environment

    prepare_environment()
    start_mpi = REACHED[1]

    def after_mpi() -> None:  # the other modules load MPI with them
        for reached in REACHED[2:-1]:
            _watch(*reached)
        _watch_first_batch()

    _watch(*start_mpi, then=after_mpi)
    from pyramidai_mpi.cli.main import main as command

    command()


def _note(reached: str) -> None:
    times = os.times()
    cpu = times.user + times.system + times.children_user + times.children_system
    _notes.append((reached, time.time(), cpu))


def _watch(reached: str, module: str, name: str, then: Callable[[], None] | None = None) -> None:
    owner = import_module(module)
    real = getattr(owner, name)

    def watched(*arguments: Any, **options: Any) -> Any:
        found = real(*arguments, **options)
        _note(reached)
        if then is not None:
            then()
        return found

    setattr(owner, name, watched)


def _watch_first_batch() -> None:
    """Note the first tiles that a network is given in the run; not those that it is tried with."""
    workload = import_module("pyramidai_mpi.run.pool.workload").PoolWorkload
    engine = import_module("pyramidai_mpi.models.engines.fixed_batch").FixedBatchEngine
    plain_expand, real = workload.expand, engine.predict

    def expand(self: Any, *arguments: Any) -> Any:
        workload.expand, engine.predict = plain_expand, predict
        return plain_expand(self, *arguments)

    def predict(self: Any, *arguments: Any, **options: Any) -> Any:
        if engine.predict is predict:
            engine.predict = real
            _note(REACHED[-1][0])
            from pyramidai_mpi.cli.launcher import launched_rank

            target = Path(f"{os.environ[NOTES]}.{launched_rank()}")
            part = target.with_name(f"part-{target.name}")
            part.write_text(json.dumps(_notes))
            part.rename(target)
        return real(self, *arguments, **options)

    workload.expand = expand


if __name__ == "__main__":
    sys.argv[0] = "pyramidai"
    main()
