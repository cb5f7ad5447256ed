"""Seconds from the launch of a run to its first tile, by phase.

    python -m bench.speed.startup SLIDE [--mpp X] [--model DIR]... [--backend B] [--ranks 2] [--launches 5]

Launches the real command again and again and ends it when every rank has given its network tiles. A phase lasts until
the last rank is through with it. Beside the wall clock stand the processor seconds of all processes, the children that
try slide and networks included, for each rank: what the start takes at least with one core a rank, and what to go by
on a machine that does other things, too. The yardstick, launched in turn with the others, starts as many ranks that
import the libraries and do nothing. Medians; the page cache is warm after the first launch, which does not count.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.speed.startup_rank import NOTES, REACHED
from pyramidai_mpi.models.shipped import default_model

if TYPE_CHECKING:
    from collections.abc import Sequence

_YARDSTICK = "import mpi4py.MPI, numpy, h5py, onnxruntime, openslide, simplejpeg, yaml, click"
_PATIENCE_S = 120.0


@dataclass(frozen=True)
class Launch:
    """One start: for each thing to reach, seconds since the launch of the last rank, and processor seconds of all."""

    wall_s: dict[str, float]
    cpu_s: dict[str, float]


def launch(ranks: int, arguments: Sequence[str | Path]) -> Launch:
    """Start a run and end it at its first tiles.

    Raises
    ------
    RuntimeError
        When a rank comes to none.
    """
    with tempfile.TemporaryDirectory() as folder:
        notes = [Path(folder) / f"notes.{rank}" for rank in range(ranks)]
        words = ["-m", "bench.speed.startup_rank", "run", *map(str, arguments)]
        words += ["-o", f"{folder}/out.h5", "--no-progress", "-q"]
        started = time.time()
        process = subprocess.Popen(
            ["mpirun", "-n", str(ranks), sys.executable, *words],
            env=os.environ | {NOTES: f"{folder}/notes"},
            stderr=subprocess.DEVNULL,
        )
        while not all(note.exists() for note in notes):
            if process.poll() is not None or time.time() - started > _PATIENCE_S:
                process.kill()
                raise RuntimeError(f"the run came to no first tile: {' '.join(words)}")
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        each = [{name: (at, cpu) for name, at, cpu in json.loads(note.read_text())} for note in notes]
        process.wait()
    names = [name for name, _, _ in REACHED]
    return Launch(
        {name: max(seen[name][0] for seen in each) - started for name in names},
        {name: sum(seen[name][1] for seen in each) for name in names},
    )


def yardstick(ranks: int) -> float:
    """Wall seconds of as many ranks that import the libraries and end."""
    started = time.perf_counter()
    subprocess.run(["mpirun", "-n", str(ranks), sys.executable, "-c", _YARDSTICK], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--mpp", default=None)
    parser.add_argument("--model", type=Path, action="append", default=None)
    parser.add_argument("--backend", default="onnxruntime")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--launches", type=int, default=5)
    options = parser.parse_args()
    models = options.model or [default_model()]
    common = [options.slide, "--backend", options.backend, *(["--mpp", options.mpp] if options.mpp else [])]
    seen: dict[Path, list[Launch]] = {model: [] for model in models}
    idle = []
    for turn in range(options.launches + 1):
        idle.append(yardstick(options.ranks))
        for model in models:
            found = launch(options.ranks, [*common, "--model", model])
            if turn:
                seen[model].append(found)
    figures = [Figure("yardstick: imports alone", median(idle[1:]), "s", {"ranks": options.ranks})]
    for model, launches in seen.items():
        setting = {"ranks": options.ranks, "backend": options.backend}
        before, before_cpu = 0.0, 0.0
        middle = {name: median(found.wall_s[name] for found in launches) for name, _, _ in REACHED}
        # networks that an earlier start has made ready are loaded before the slide is open, others after
        for name in sorted(middle, key=lambda name: middle[name]):
            wall = middle[name]
            cpu = median(found.cpu_s[name] for found in launches) / options.ranks
            figures += [
                Figure(f"{model.name}: until {name}", wall - before, "s", setting),
                Figure(f"{model.name}: until {name}", cpu - before_cpu, "CPU s/rank", setting),
            ]
            before, before_cpu = wall, cpu
        ratio = median(found.wall_s[REACHED[-1][0]] / bare for found, bare in zip(launches, idle[1:], strict=True))
        figures += [
            Figure(f"{model.name}: launch to first tile on all ranks", before, "s", setting),
            Figure(f"{model.name}: launch to first tile on all ranks", before_cpu, "CPU s/rank", setting),
            Figure(f"{model.name}: over the yardstick", ratio, "", setting),
        ]
    report(figures, options.json)


if __name__ == "__main__":
    main()
