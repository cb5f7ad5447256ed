"""Flip single bits of a result file, one at a time, and read it: every flip must be refused or be without effect.

    python -m bench.faults.bitflips [--flips 2000] [--seed 0] [--result OUT.h5]

Each flip lies at a place that the seed and its number decide. The file is then read whole: the digest, the summary, and
every attribute and table. *Refused* is one line for the user (`InputError`); *without effect* means that all of it
equals what the untouched file gives, so the bit lies in unused space. Anything else is counted as wrong and its place
printed; a reader that dies ends the program with an error.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from bench.command_line import command_line
from bench.speed.exports import made_result, write_result
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.results.reader import open_result, read_digest, summarise
from pyramidai_mpi.store.results.tables import damage_is_named

REFUSED, WITHOUT_EFFECT, WRONG = "refused", "without effect", "WRONG"


@dataclass(frozen=True)
class Flip:
    """One bit of a file, and what became of reading it."""

    byte: int
    bit: int
    outcome: str


def everything(path: Path) -> list[Any]:
    """All that can be had from a result file, comparable by ``==``; what a flip must not change unseen."""
    found: list[Any] = [read_digest(path), repr(summarise(path))]

    def visit(name: str, item: h5py.HLObject) -> None:
        found.append([name, sorted((key, repr(np.asarray(value).tolist())) for key, value in item.attrs.items())])
        if isinstance(item, h5py.Dataset):
            found.append([str(item.dtype), item.shape, item[...].tobytes()])

    with open_result(path) as file, damage_is_named(file):
        visit("/", file)
        file.visititems(visit)
    return found


def flip(data: bytes, untouched: list[Any], seed: int, number: int) -> Flip:
    """Flip the bit that seed and number decide, and read."""
    rng = np.random.default_rng([seed, number])
    byte, bit = int(rng.integers(len(data))), int(rng.integers(8))
    changed = bytearray(data)
    changed[byte] ^= 1 << bit
    with tempfile.NamedTemporaryFile(suffix=".h5") as file:
        file.write(changed)
        file.flush()
        try:
            outcome = WITHOUT_EFFECT if everything(Path(file.name)) == untouched else WRONG
        except InputError:
            outcome = REFUSED
    return Flip(byte, bit, outcome)


def flips(path: Path, n: int, seed: int, processes: int = 1) -> list[Flip]:
    """Try `n` flips of a file.

    Raises
    ------
    concurrent.futures.process.BrokenProcessPool
        When a reader dies.
    """
    data = path.read_bytes()
    with ProcessPoolExecutor(processes) as pool:
        return list(pool.map(partial(flip, data, everything(path), seed), range(n), chunksize=20))


def main() -> None:
    """Flip bits of a result and print what became of them."""
    parser = command_line(__doc__)
    parser.add_argument("--flips", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--result", type=Path, help="A result file.  [default: a small one made for it]")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.result or Path(folder) / "small.h5"
        if given.result is None:
            write_result(path, made_result(1, 1))
        started = time.perf_counter()
        tried = flips(path, given.flips, given.seed)
        size = path.stat().st_size
    counts = Counter(one.outcome for one in tried)
    seconds = time.perf_counter() - started
    print(f"{given.flips} flips (seed {given.seed}) in {size} bytes, {seconds:.0f} s: {dict(counts)}")
    wrong = [one for one in tried if one.outcome == WRONG]
    for one in wrong:
        print(f"  byte {one.byte}, bit {one.bit}: read as if nothing were wrong, but not the same")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
