"""Cells drawn by chance, without replacement: the same whoever draws, also where pixels refuse some of them.

Each cell has a place in a random order that follows from seed, slide and cell alone, so that where it stands there has
nothing to do with what it looks like. Whoever wants N that pass takes them from the front. Ranks that look at cells at
the same time know nothing of each other's; so the order is cut into N chains, the cell at place p being followed by
that at p + N once it was refused, and of each chain the first that passes is taken. As any cell stands anywhere with
the same probability, each that passes is as likely as any other.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.types import index_keys

if TYPE_CHECKING:
    import numpy.typing as npt

LOOKED_AT_WHOLE = 8
"""Up to this many cells for each that is wanted, all are looked at: no chain is then too short."""


@dataclass(frozen=True)
class Draw:
    """Cells of which some are wanted, in the order in which they are drawn.

    Attributes
    ----------
    index
        int64 (T, 2): col, row.
    n
        How many are wanted.
    may_refuse
        Whether a cell may turn out to be none by its pixels.
    """

    index: npt.NDArray[np.int64]
    n: int
    may_refuse: bool

    @classmethod
    def among(
        cls, index: npt.NDArray[np.integer], n: int, seed: int, quickhash: str, *, may_refuse: bool = False
    ) -> Draw:
        """The draw from these cells, (T, 2): col, row; see `drawing_order`."""
        order = drawing_order(index, seed, quickhash)
        return cls(index[order].astype(np.int64), n, may_refuse)

    @property
    def looks_at_all(self) -> bool:
        """Whether all cells are looked at before any is taken."""
        return self.may_refuse and len(self.index) <= LOOKED_AT_WHOLE * self.n

    def first(self) -> npt.NDArray[np.int64]:
        """Cells to begin with, int64 (m, 2)."""
        return self.index if self.looks_at_all else self.index[: self.n]

    def followers(self, refused: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Cells (m, 2) to look at instead of these (k, 2); such as are not of this draw have none."""
        if not self.may_refuse or self.looks_at_all:
            return self.index[:0]
        places = self._places(refused)
        following = places[places >= 0] + self.n
        return self.index[following[following < len(self.index)]]

    def settled(self, index: npt.NDArray[np.integer], passes: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Of cells (k, 2) that were looked at, those that were needed, bool (k,): no more than `n` of them pass.

        Where all were looked at, these are the ones up to the n-th that passes; such as are not of this draw are not
        needed.
        """
        places = self._places(index)
        needed = places >= 0
        if self.looks_at_all:
            own = np.flatnonzero(needed)
            own = own[np.argsort(places[own])]
            before: npt.NDArray[np.int64] = np.cumsum(passes[own]) - passes[own]
            needed[own] = before < self.n
        return np.asarray(needed)

    @cached_property
    def _by_key(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        keys = index_keys(self.index)
        order = np.argsort(keys)
        return keys[order], order

    def _places(self, index: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
        """Places of cells in the draw, int64 (k,); -1 for such as are not in it."""
        keys, order = self._by_key
        wanted = index_keys(index)
        if not len(keys):
            return np.full(len(wanted), -1, np.int64)
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where(keys[at] == wanted, order[at], -1)


def drawing_order(index: npt.NDArray[np.integer], seed: int, quickhash: str) -> npt.NDArray[np.int64]:
    """In which order cells are drawn without replacement, each as likely to be the next as any other.

    Each cell has a 64-bit number that follows from seed, slide and place alone, and those with the smallest numbers are
    drawn first. So it does not matter who asks, how often, or with which version of numpy, and of one seed the first
    100 are among the first 1000.

    Parameters
    ----------
    index
        (T, 2): col, row, none of them twice.

    Returns
    -------
    numpy.ndarray
        int64 (T,): places in `index`.
    """
    salt = int.from_bytes(hashlib.sha256(f"pyramidai-sample/1 {seed} {quickhash}".encode()).digest()[:8], "little")
    keys = index_keys(index)
    return np.lexsort((keys, mixed_bits(keys.astype(np.uint64) ^ np.uint64(salt)))).astype(np.int64)


def draw(index: npt.NDArray[np.integer], n: int, seed: int, quickhash: str) -> npt.NDArray[np.int64]:
    """The first n of `drawing_order`, or all where there are no more: places in `index`, ascending, int64."""
    return np.sort(drawing_order(index, seed, quickhash)[:n])


def mixed_bits(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """A bijection of 64 bits whose output looks random whatever the input: SplitMix64 (Steele et al. 2014)."""
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
