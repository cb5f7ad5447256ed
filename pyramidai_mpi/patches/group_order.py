"""Shuffling patches group by group: which groups come when, and to whom. Arrays alone, no files.

A random patch by itself costs six to eleven times what it costs within its group. So the groups are shuffled, a few of
them at a time are read whole, and the patches of these few are shuffled among themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

GROUP_DTYPE = np.dtype([("file", "<i4"), ("start", "<i8"), ("stop", "<i8")])
"""Some of a file's chosen patches: number of the file; first and last (excluded) of the file's chosen ones."""

_MOST_ROWS = 1 << 62
"""A group that is larger holds all patches of any file; numbers of patches may be of 32 bits."""


def groups_of(rows: Sequence[npt.NDArray[np.integer]], sizes: Sequence[int]) -> npt.NDArray[np.void]:
    """The groups that hold chosen patches, `GROUP_DTYPE`, in the order of files and patches.

    Parameters
    ----------
    rows
        For each file the numbers of its chosen patches, ascending.
    sizes
        For each file the patches in a group: a file's group n holds patches n * size up to (n + 1) * size.
    """
    found = []
    for number, (chosen, size) in enumerate(zip(rows, sizes, strict=True)):
        cuts = np.flatnonzero(np.diff(chosen // np.int64(min(size, _MOST_ROWS)))) + 1
        group = np.zeros(len(cuts) + 1 if len(chosen) else 0, GROUP_DTYPE)
        if len(group):
            group["file"] = number
            group["start"][1:], group["stop"][:-1], group["stop"][-1] = cuts, cuts, len(chosen)
        found.append(group)
    return np.concatenate(found) if found else np.zeros(0, GROUP_DTYPE)


def share_of(n_groups: int, seed: int, epoch: int, rank: int, world: int) -> npt.NDArray[np.int64]:
    """Numbers of the groups of one of `world` shares, in the order in which they are read.

    The shares of an epoch are disjoint, and all of them together are all groups. Share r of w is shares r, r + w, ...,
    r + (k - 1) w of k w together, so who shares out a share further leaves it the same.
    """
    return np.random.default_rng([seed, epoch]).permutation(n_groups)[rank::world]


def windows_of(
    groups: npt.NDArray[np.void], window: int, key: Sequence[int]
) -> Iterator[tuple[npt.NDArray[np.void], npt.NDArray[np.int64]]]:
    """Some groups at a time, and the order of their patches.

    Parameters
    ----------
    groups
        `GROUP_DTYPE`, in the order in which they are read.
    window
        How many at a time.
    key
        Whole numbers from 0 that the orders follow from.

    Yields
    ------
    groups : numpy.ndarray
        `GROUP_DTYPE`.
    order : numpy.ndarray
        int64 (n,): a permutation of their n patches, which stand one group after the other.
    """
    for number, first in enumerate(range(0, len(groups), window)):
        some = groups[first : first + window]
        n = int((some["stop"] - some["start"]).sum())
        yield some, np.random.default_rng([*key, number]).permutation(n)
