"""A tree of sleeping tiles as peers take it, and the loop of who deals them; for any Python with numpy.

`bench.paper.lesions` makes the trees and says what is modelled in them.
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import time
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

JOB = "PYRAMIDAI_BENCH_JOB"
"""In the environment of all processes of one measurement."""
CHUNK = 16
_SIDE, _STORED = 224, 512
"""Sides of a tile, and of the blocks that files of slides are stored in, pixels."""


@dataclass(frozen=True)
class SleepingTree:
    """Every tile of a tree, roots first.

    Attributes
    ----------
    tiles : ndarray (n,)
        With ``level``, ``col``, ``row``.
    seconds : ndarray (n,) of float64
        That each sleeps.
    first_child : ndarray (n,) of int64
        The first of four in a row; -1: none.
    n_roots : int
        How many are roots.
    """

    tiles: np.ndarray
    seconds: np.ndarray
    first_child: np.ndarray
    n_roots: int

    def save(self, path: Path) -> None:
        """Write it."""
        np.savez(path, tiles=self.tiles, seconds=self.seconds, first_child=self.first_child, n_roots=self.n_roots)

    def children(self, places: np.ndarray) -> np.ndarray:
        """Places (4 m,) of the children of those m of `places` that have any."""
        first = self.first_child[places]
        return (first[first >= 0][:, None] + np.arange(4)).ravel()


@lru_cache(maxsize=1)
def load_tree(path: str) -> SleepingTree:
    """What `SleepingTree.save` wrote; kept by each process."""
    with np.load(path) as arrays:
        return SleepingTree(arrays["tiles"], arrays["seconds"], arrays["first_child"], int(arrays["n_roots"]))


def worker_name() -> str:
    """Of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


def expand(path: str, places: np.ndarray) -> tuple[str, float, np.ndarray]:
    """Sleep for these tiles; who did, for how long it was to sleep, and their children."""
    tree = load_tree(path)
    seconds = float(tree.seconds[places].sum())
    time.sleep(seconds)
    return worker_name(), seconds, tree.children(places)


def arrive(path: str, seconds: float) -> str:
    """Load the tree and stay for a while, so that the others have to start."""
    load_tree(path)
    time.sleep(seconds)
    return worker_name()


@dataclass(frozen=True)
class Dealt:
    """One measurement of a peer.

    Attributes
    ----------
    workers
        That slept.
    processes
        That the machine has to have for them: with a rank that deals, one more.
    nominal_s, wall_s
        Sum of the sleeps; from the first tile dealt to the last one's return.
    cpu_s
        Processor seconds of all processes of the job on this host meanwhile.
    blocks
        Blocks of the slide's file that all workers together would have decoded, each its own once, over those of one
        worker.
    """

    method: str
    workers: int
    processes: int
    tiles: int
    nominal_s: float
    wall_s: float
    cpu_s: float
    blocks: float


def deal(
    method: str, path: Path, workers: int, processes: int, submit: Callable[..., Any], *, chunk: int = CHUNK
) -> Dealt:
    """Deal the tree in chunks of one level to an executor, as its results come.

    Parameters
    ----------
    submit
        ``submit(function, *arguments)`` returns a future with ``add_done_callback``.
    """
    tree, where = load_tree(str(path)), str(path)
    here: set[str] = set()
    while len(here) < workers:  # its start is not timed
        for future in [submit(arrive, where, 0.2) for _ in range(workers)]:
            here.add(future.result())
    finished: queue.SimpleQueue[Any] = queue.SimpleQueue()
    done: dict[str, list[np.ndarray]] = defaultdict(list)
    sent: dict[int, np.ndarray] = {}

    def send(places: np.ndarray) -> None:
        for level in np.unique(tree.tiles["level"][places]):
            of_level = places[tree.tiles["level"][places] == level]
            for start in range(0, len(of_level), chunk):
                one = of_level[start : start + chunk]
                number = len(sent)
                sent[number] = one
                submit(expand, where, one).add_done_callback(
                    lambda future, number=number: finished.put((number, future))
                )

    cpu, started = job_cpu_seconds(), time.perf_counter()
    send(np.arange(tree.n_roots))
    nominal, received = 0.0, 0
    while received < len(sent):
        number, future = finished.get()
        name, seconds, children = future.result()
        received += 1
        nominal += seconds
        done[name].append(sent[number])
        send(children)
    wall = time.perf_counter() - started
    cpu = job_cpu_seconds() - cpu
    tiles = sum(len(one) for one in sent.values())
    by_worker = [tree.tiles[np.concatenate(parts)] for parts in done.values()]
    return Dealt(method, workers, processes, tiles, nominal, wall, cpu, decoded_blocks(by_worker))


def decoded_blocks(by_worker: Iterable[np.ndarray]) -> float:
    """Blocks that workers decode, each its own once, over those of one worker; of the tiles (n,) that each did."""
    sets = [_blocks(tiles) for tiles in by_worker]
    return sum(map(len, sets)) / len(set().union(*sets))


def _blocks(tiles: np.ndarray) -> set[tuple[int, int, int]]:
    """Level, column and row of the stored blocks that tiles lie in."""
    found = set()
    for right in (0, 1):
        for down in (0, 1):
            col = (tiles["col"].astype(np.int64) * _SIDE + right * (_SIDE - 1)) // _STORED
            row = (tiles["row"].astype(np.int64) * _SIDE + down * (_SIDE - 1)) // _STORED
            found.update(zip(tiles["level"].tolist(), col.tolist(), row.tolist(), strict=True))
    return found


def job_cpu_seconds() -> float:
    """Processor seconds so far of the living processes with this process's `JOB`."""
    mark = f"{JOB}={os.environ.get(JOB, '')}".encode()
    ticks = 0
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    user, system = (folder / "stat").read_text().rpartition(")")[2].split()[11:13]
                    ticks += int(user) + int(system)
            except (OSError, ValueError):
                continue  # it has ended meanwhile
    return ticks / os.sysconf("SC_CLK_TCK")


def asked() -> tuple[Path, int]:
    """The command line of a peer's script: the tree, and how many workers."""
    return Path(sys.argv[1]), int(sys.argv[2])


def answer(dealt: Dealt) -> None:
    """The last line of a peer's script."""
    print(json.dumps(asdict(dealt)), flush=True)
