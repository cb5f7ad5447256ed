"""A tree of sleeping tiles over three hosts, near and far apart: stealing, mpi4py's pool and dask.

    python -m bench.peers.scheduling.over_hosts --work WORK [--delays 0,1,5] [--workers 12] [--seconds 0.005]

The hosts are namespaces of this machine with networks of their own (`tests/cluster/hosts`, which needs root and
iproute2); every packet between them takes as many milliseconds as `--delays` say, one way
(`bench.peers.scheduling.relay`). Four workers a host, chunks of 16. Python's process pool and loky stay on one
machine, so they are not here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.figures import print_table
from bench.peers import environments
from bench.peers.cost import CommandFailed, run_command
from bench.peers.scheduling.__main__ import sleeping_tree
from bench.peers.scheduling.tree import JOB, Dealt
from bench.peers.scheduling.with_dask import ADDRESS
from bench.peers.ways import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Iterator

_SCRIPT = REPOSITORY / "tests" / "cluster" / "hosts"
_HOSTS = ("n1", "n2", "n3")
WAYS = ("steal-half", "static", "mpipool", "dask")


@contextmanager
def hosts_apart(folder: Path, delay_ms: float) -> Iterator[None]:
    """Three hosts, `delay_ms` from each other."""
    subprocess.run([_SCRIPT, "up", folder], check=True)
    try:
        words = [sys.executable, "-m", "bench.peers.scheduling.relay", str(folder), str(delay_ms)]
        with subprocess.Popen(words, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as relay:
            if relay.stdout is None or relay.stdout.readline() != "ready\n":
                raise SystemExit("no network between the hosts could be made")
            try:
                yield
            finally:
                relay.kill()
    finally:
        subprocess.run([_SCRIPT, "down", folder], check=True)


def on(folder: Path, host: str, *words: str | Path) -> list[str]:
    """A command as run on one host."""
    return [str(_SCRIPT), "on", str(folder), host, *map(str, words)]


def environment_of_ranks(job: str) -> dict[str, str]:
    """Of a job by that name, of many ranks on few cores."""
    return {
        JOB: job,
        "PYTHONPATH": str(REPOSITORY),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPIR_CVAR_POLLS_BEFORE_YIELD": "0",
    }


def launcher(folder: Path, python: Path, ranks: list[int]) -> list[str | Path]:
    """MPICH's, of the environment of `python`, for so many ranks on each of the hosts."""
    machines = folder / "machines"
    machines.write_text("".join(f"{host}:{n}\n" for host, n in zip(_HOSTS, ranks, strict=True)))
    over_ssh = ["-launcher", "ssh", "-launcher-exec", folder / "rsh", "-f", machines]
    return [python.with_name("mpirun"), *over_ssh, "-n", str(sum(ranks))]


def measure(way: str, tree: Path, workers: int, work: Path, folder: Path) -> Dealt:
    """Run one way over the three hosts.

    Raises
    ------
    CommandFailed
        It did not go well.
    """
    environment = environment_of_ranks(uuid.uuid4().hex)
    if way == "dask":
        return _dask(tree, workers, work, folder, environment)
    python = environments.python_of(work, way).absolute() if way == "mpipool" else Path(sys.executable)
    # the dealer's rank is one more on the first host
    slots = [workers // 3 + (number == 0 and way == "mpipool") for number in range(3)]
    script = "with_mpipool" if way == "mpipool" else "with_ours"
    words = [*launcher(folder, python, slots), python, "-m", f"bench.peers.scheduling.{script}", tree, str(workers)]
    words += [] if way == "mpipool" else [way]
    _, said = run_command(on(folder, "n1", *words), folder=REPOSITORY, environment=environment, limit_s=120)
    return Dealt(**json.loads(said.splitlines()[-1]))


def _dask(tree: Path, workers: int, work: Path, folder: Path, environment: dict[str, str]) -> Dealt:
    """Its scheduler and its client on the first host."""
    python = environments.python_of(work, "dask").absolute()
    started = []
    full = {**os.environ, **environment}

    def start(host: str, module: str, *words: str) -> None:
        command = on(folder, host, python, "-m", module, *words)
        silent = subprocess.DEVNULL
        started.append(
            subprocess.Popen(command, cwd=REPOSITORY, env=full, stdout=silent, stderr=silent, start_new_session=True)
        )

    scheduler = ("--host", "n1", "--port", "8786", "--no-dashboard")
    try:
        start("n1", "distributed.cli.dask_scheduler", *scheduler)
        time.sleep(2)
        each = ("--nworkers", str(workers // 3), "--nthreads", "1", "--no-dashboard", "--no-nanny")
        for host in _HOSTS:
            start(host, "distributed.cli.dask_worker", "tcp://n1:8786", "--host", host, *each)
        words = on(folder, "n1", python, "-m", "bench.peers.scheduling.with_dask", tree, str(workers))
        _, said = run_command(
            words, folder=REPOSITORY, environment=environment | {ADDRESS: "tcp://n1:8786"}, limit_s=120
        )
    finally:
        for process in started:
            os.killpg(process.pid, 9)
            process.wait()
    return Dealt(**json.loads(said.splitlines()[-1]))


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "outlines")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--delays", default="0,1,5", help="milliseconds, one way")
    parser.add_argument("--workers", type=int, default=12, help="a multiple of three")
    parser.add_argument("--seconds", type=float, default=0.005, help="that a tile sleeps, +- 20 %%")
    parser.add_argument("--roots", type=int, default=4000)
    parser.add_argument("--way", action="append", choices=WAYS, help="all unless given")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    ways = options.way or list(WAYS)
    for name in ("mpipool", "dask"):
        if name in ways:
            environments.make(options.work, name)
    found: dict[tuple[float, str], list[Dealt]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch) / "tree.npz"
        sleeping_tree(options.outlines, "tumor_011", options.roots, options.seconds).save(tree)
        for number, delay in enumerate(map(float, options.delays.split(","))):
            with hosts_apart(Path(scratch) / f"hosts{number}", delay):
                for _ in range(options.repetitions):
                    for way in ways:
                        try:
                            dealt = measure(way, tree, options.workers, options.work, Path(scratch) / f"hosts{number}")
                        except CommandFailed as failure:
                            print(f"{way} at {delay:g} ms failed: {failure}", file=sys.stderr, flush=True)
                            continue
                        print(f"{dealt.method}, {delay:g} ms: {dealt.wall_s:.2f} s", file=sys.stderr, flush=True)
                        found.setdefault((delay, dealt.method), []).append(dealt)
    print_table(("ms one way", "method", "runs", "ideal s", "a worker", "least to most", "a rank"), rows_of(found))


def rows_of(found: dict[tuple[float, str], list[Dealt]]) -> Iterator[list[object]]:
    """A row for each delay and method."""
    for (delay, method), here in found.items():
        efficiencies = [one.nominal_s / (one.workers * one.wall_s) for one in here]
        yield [
            f"{delay:g}",
            method,
            len(here),
            f"{here[0].nominal_s / here[0].workers:.1f}",
            f"{median(efficiencies):.3f}",
            f"{min(efficiencies):.3f} to {max(efficiencies):.3f}",
            f"{median(efficiencies) * here[0].workers / here[0].processes:.3f}",
        ]


if __name__ == "__main__":
    main()
