"""The first rank is killed half-way, over three hosts: what a pool and what the program have left.

    python -m bench.peers.scheduling.dealer_lost SLIDE --work WORK [--model DIR] [--delay 1] [--repetitions 3]

The first rank of mpi4py's pool deals, and alone has the results. The program's first rank is a rank like others; its
tiles are in the journal, and `--resume` goes on. Both run on six ranks over the hosts of
`bench.peers.scheduling.over_hosts`, once undisturbed and once killed after half of that time and started again. Seconds
are from launch to exit, those of both starts together. The pool sleeps for the tiles of a tree.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.figures import print_table
from bench.peers import environments
from bench.peers.scheduling.__main__ import sleeping_tree
from bench.peers.scheduling.over_hosts import environment_of_ranks, hosts_apart, launcher, on
from bench.peers.scheduling.tree import JOB
from bench.peers.ways import REPOSITORY
from pyramidai_mpi.models.shipped import default_model

if TYPE_CHECKING:
    from collections.abc import Callable

_RANKS = 6


def first_rank(job: str) -> int:
    """Process number of the first rank of a job of MPICH's; 0: there is none yet."""
    wanted = {f"{JOB}={job}".encode(), b"PMI_RANK=0"}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if wanted <= set((folder / "environ").read_bytes().split(b"\0")):
                    return int(folder.name)
            except OSError:
                continue  # it has ended meanwhile
    return 0


def run(words: list[str], kill_after_s: float | None = None) -> float:
    """Seconds of a job; with `kill_after_s` its first rank is killed then, if the job is still running.

    Raises
    ------
    SystemExit
        It failed without having been killed, or was killed and did not fail.
    """
    job = uuid.uuid4().hex
    started = time.perf_counter()
    with subprocess.Popen(
        words,
        cwd=REPOSITORY,
        env={**os.environ, **environment_of_ranks(job)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            os.kill(first_rank(job), signal.SIGKILL)
        _, complaint = process.communicate(timeout=300)
    if (process.returncode != 0) != (kill_after_s is not None):
        raise SystemExit(f"a job ended with {process.returncode}:\n{complaint[-2000:]}")
    return time.perf_counter() - started


def disturbed(first: Callable[[], list[str]], again: Callable[[], list[str]], plain_s: float) -> float:
    """Seconds of a job that is killed at half its time, and of its next start."""
    return run(first(), plain_s / 2) + run(again())


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "outlines")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=None, help="the shipped one unless given")
    parser.add_argument("--delay", type=float, default=1.0, help="milliseconds between hosts, one way")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    environments.make(options.work, "mpipool")
    python = environments.python_of(options.work, "mpipool").absolute()
    model = options.model or default_model()
    seconds: dict[str, list[tuple[float, float]]] = {"mpi4py's pool": [], "ours, --resume": []}
    with tempfile.TemporaryDirectory() as scratch:
        folder, tree, result = Path(scratch) / "hosts", Path(scratch) / "tree.npz", Path(scratch) / "out.h5"
        sleeping_tree(options.outlines, "tumor_011", 1000, 0.005).save(tree)

        def pool() -> list[str]:
            words = [*launcher(folder, python, [2, 2, 2]), python, "-m", "bench.peers.scheduling.with_mpipool"]
            return on(folder, "n1", *words, tree, str(_RANKS - 1))

        def ours(*more: str) -> list[str]:
            words = [*launcher(folder, Path(sys.executable), [2, 2, 2]), sys.executable, "-m", "pyramidai_mpi", "run"]
            words += [options.slide.resolve(), "--model", model, "--mode", "reference", "-o", result, "-q", *more]
            return on(folder, "n1", *words)

        with hosts_apart(folder, options.delay):
            for _ in range(options.repetitions):
                plain = run(pool())
                seconds["mpi4py's pool"].append((plain, disturbed(pool, pool, plain)))
                plain = run(ours("--overwrite"))
                result.unlink()
                seconds["ours, --resume"].append((plain, disturbed(ours, lambda: ours("--resume"), plain)))
    heads = ("method", "runs", "undisturbed s", "first rank killed half-way s", "times", "least to most")
    print_table(heads, (_row(method, rows) for method, rows in seconds.items()))


def _row(method: str, rows: list[tuple[float, float]]) -> list[object]:
    ratios = [killed / plain for plain, killed in rows]
    plains, kills = ([row[which] for row in rows] for which in (0, 1))
    return [
        method,
        len(rows),
        f"{median(plains):.1f}",
        f"{median(kills):.1f}",
        f"{median(ratios):.2f}",
        f"{min(ratios):.2f} to {max(ratios):.2f}",
    ]


if __name__ == "__main__":
    main()
