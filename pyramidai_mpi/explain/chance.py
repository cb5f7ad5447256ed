"""Random numbers that follow from a tile and a mask's number alone, so that any rank can draw any block of masks.

Philox counts (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): each mask has its own stretch of
the counter, and a block is found without drawing those before it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

Key = tuple[int, ...]
"""What a tile's masks follow from: seed, the slide's quick hash as a number, level, column, row."""

_WORDS_PER_COUNT = 4


def words(purpose: str, key: Key, numbers: range, count: int) -> npt.NDArray[np.uint64]:
    """Random 64-bit words of some masks.

    Parameters
    ----------
    purpose
        What they are for; two purposes never share numbers.
    key
        See `Key`.
    numbers
        Numbers of the masks, ascending by one.
    count
        How many words each mask has.

    Returns
    -------
    numpy.ndarray
        uint64 (len(numbers), count), each row a function of purpose, key, its number and `count`.
    """
    counts = -(-count // _WORDS_PER_COUNT)
    digest = hashlib.sha256(f"pyramidai-explain/1 {purpose} {' '.join(map(str, key))}".encode()).digest()
    philox = np.random.Philox(
        key=np.frombuffer(digest[:16], "<u8").astype(np.uint64),
        counter=np.array([numbers.start * counts, 0, 0, 0], np.uint64),
    )
    drawn = philox.random_raw(len(numbers) * counts * _WORDS_PER_COUNT)
    return np.asarray(drawn).reshape(len(numbers), -1)[:, :count]


def uniforms(purpose: str, key: Key, numbers: range, count: int) -> npt.NDArray[np.float64]:
    """The same as numbers in [0, 1), float64 (len(numbers), count)."""
    return np.asarray((words(purpose, key, numbers, count) >> np.uint64(11)) * 2.0**-53)


def bits(purpose: str, key: Key, numbers: range, count: int) -> npt.NDArray[np.bool_]:
    """The same as tosses of a coin, bool (len(numbers), count)."""
    drawn = words(purpose, key, numbers, -(-count // 64)).astype("<u8")
    return np.unpackbits(drawn.view(np.uint8), axis=1, bitorder="little")[:, :count].astype(bool)
