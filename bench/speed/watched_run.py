"""The real command under mpirun, watched from outside: each rank's memory while tiles get done, and all its time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_POLL_S = 0.05
_FEWEST_SAMPLES = 20


@dataclass
class WatchedRun:
    """What was seen of a run.

    Attributes
    ----------
    wall_s, cpu_s
        Seconds from launch to end; processor seconds of all its processes.
    peak_bytes
        Most memory that each rank held, by process number.
    samples
        float64 (N, 3) for each rank: seconds since launch, bytes in the journal, bytes of memory held.
    """

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak_bytes: dict[int, int] = field(default_factory=dict)
    samples: dict[int, list[tuple[float, float, float]]] = field(default_factory=dict)

    def growth(self, n_tiles: int, first_share: float = 0.2) -> list[float]:
        """Bytes by which each rank's memory grew for each tile of the run, from `first_share` of the tiles on.

        How many tiles are done is told by the size of the journal, which takes each as it is done. NaN for runs too
        short to tell.
        """
        grown = []
        for rows in self.samples.values():
            _, journal, resident = np.array(rows).T
            tiles = journal / journal.max() * n_tiles
            # until the last tile: what comes after that is the gathering
            during = (tiles >= first_share * n_tiles) & (tiles < n_tiles)
            enough = np.count_nonzero(during) >= _FEWEST_SAMPLES
            grown.append(float(np.polyfit(tiles[during], resident[during], 1)[0]) if enough else float("nan"))
        return grown

    def memory(self) -> npt.NDArray[np.float64]:
        """Peaks of all ranks in MB, the fullest first."""
        return np.sort(np.array(list(self.peak_bytes.values())) / 1e6)[::-1]


def watch_run(ranks: int, arguments: Sequence[str | Path], output: Path) -> WatchedRun:
    """Run ``pyramidai run ARGUMENTS -o OUTPUT`` on some ranks of this machine.

    Raises
    ------
    subprocess.CalledProcessError
        When it fails.
    """
    words = [sys.executable, "-m", "pyramidai_mpi", "run", *map(str, arguments)]
    words += ["-o", str(output), "--no-progress", "-q"]
    job = ["mpirun", "-n", str(ranks), *words]
    seen = WatchedRun()
    started = time.perf_counter()
    process = subprocess.Popen(job)
    pids: set[int] = set()
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            break
        now = time.perf_counter() - started
        if len(pids) < ranks:
            pids |= {child for child in descendants(process.pid) if command(child) == words}
        done = _size(output.with_name(output.name + ".journal"))
        for rank in pids:
            with suppress(OSError, KeyError):
                held = _status(rank)
                seen.peak_bytes[rank] = held["VmHWM"]
                if done:
                    seen.samples.setdefault(rank, []).append((now, done, held["VmRSS"]))
        time.sleep(_POLL_S)
    seen.wall_s = time.perf_counter() - started
    seen.cpu_s = usage.ru_utime + usage.ru_stime
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, job)
    return seen


def descendants(pid: int) -> list[int]:
    """Numbers of the processes that `pid` has started, and of those that these have."""
    found = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def command(pid: int) -> list[str]:
    """Words that a process was started with; none of one that is gone."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")[:-1]
    return []


def _status(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.split(":") for line in lines if line.startswith(("VmHWM", "VmRSS")))
    return {name: int(value.split()[0]) << 10 for name, value in pairs}


def _size(folder: Path) -> int:
    with suppress(OSError):
        return sum(entry.stat().st_size for entry in os.scandir(folder))
    return 0
