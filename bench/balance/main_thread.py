"""What the scheduler costs a real run: processor time of each rank's main thread while the workers classify tiles.

    python -m bench.balance.main_thread SLIDE [--model DIR] [--ranks 2] [--mode pyramid] [--repetitions 3] [--json FILE]

The main thread of a rank carries all messages, of the scheduler and of the slides' owners, and does nothing else. Linux
counts its nanoseconds on a core and how often it went to sleep (`/proc/PID/task/PID`); both are taken from the first
tile in a journal until the last. What the worker's thread spends on taking batches is microseconds a batch
(`bench.balance.sched_cost`), and is not in it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.speed.watched_run import command, descendants
from pyramidai_mpi.models.shipped import default_model

_POLL_S = 0.1
_SHORTEST_S = 1.0


@dataclass(frozen=True)
class Sample:
    """A rank's main thread at one instant: seconds of the clock and on a core, sleeps so far, bytes in all journals."""

    at_s: float
    cpu_s: float
    sleeps: int
    journal: int


def sample(pid: int, journal: int) -> Sample:
    """Look at one process."""
    thread = Path(f"/proc/{pid}/task/{pid}")
    cpu_ns = int((thread / "schedstat").read_text().split()[0])
    lines = (thread / "status").read_text().splitlines()
    sleeps = next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    return Sample(time.perf_counter(), cpu_ns / 1e9, sleeps, journal)


def watch(ranks: int, arguments: list[str], output: Path) -> list[list[Sample]]:
    """Run the program; samples of each rank while its journal grows.

    Raises
    ------
    SystemExit
        It failed.
    """
    words = [sys.executable, "-m", "pyramidai_mpi", "run", *arguments, "-o", str(output), "--no-progress", "-q"]
    process = subprocess.Popen(["mpirun", "-n", str(ranks), *words])
    journal = output.with_name(output.name + ".journal")
    samples: dict[int, list[Sample]] = {}
    while process.poll() is None:
        with suppress(OSError):
            size = sum(entry.stat().st_size for entry in os.scandir(journal) if entry.name.endswith(".tiles"))
            for pid in descendants(process.pid):
                if command(pid) == words:
                    samples.setdefault(pid, []).append(sample(pid, size))
        time.sleep(_POLL_S)
    if process.returncode not in {0, 3}:
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return list(samples.values())


def figures_of(samples: list[Sample], setting: dict[str, object]) -> list[Figure]:
    """Of one rank, between the first tile in the journal and the last."""
    least, most = samples[0].journal, samples[-1].journal
    first = next((one for one in samples if one.journal > least), samples[-1])
    last = next(one for one in samples if one.journal == most)
    if last.at_s - first.at_s < _SHORTEST_S:
        raise SystemExit("the run is too short to tell; name a larger slide")
    seconds, cpu, sleeps = last.at_s - first.at_s, last.cpu_s - first.cpu_s, last.sleeps - first.sleeps
    return [
        Figure("CPU of the main thread", 100 * cpu / seconds, "% of core", setting),
        Figure("sleeps", sleeps / seconds, "a second", setting),
        Figure("CPU a sleep", 1e6 * cpu / max(sleeps, 1), "us", setting),
    ]


def main() -> None:
    """Run, watch, print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--mode", default="pyramid")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--option", action="append", default=[], help="more words for `run`, one each")
    options = parser.parse_args()
    found: list[Figure] = []
    arguments = [str(options.slide), "--model", str(options.model), "--mode", options.mode, *options.option]
    with tempfile.TemporaryDirectory() as folder:
        for repetition in range(options.repetitions):
            for rank, samples in enumerate(watch(options.ranks, arguments, Path(folder) / f"{repetition}.h5")):
                setting = {"ranks": options.ranks, "rank": rank, "repetition": repetition, "model": options.model.name}
                found += figures_of(samples, setting)
                report(found[-3:], None)
    shares = [figure.value for figure in found if figure.unit == "% of core"]
    setting = {"worst": round(max(shares), 2)}
    found.append(Figure("CPU of the main thread, median", median(shares), "% of core", setting))
    print()
    report(found[-1:], None)
    if options.json is not None:
        report(found, options.json)


if __name__ == "__main__":
    main()
