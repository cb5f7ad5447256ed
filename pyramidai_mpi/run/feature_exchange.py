"""Bringing feature vectors from the ranks that computed them to the ranks that write them, in bounded blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.ranks.collectives import all_to_all_rows

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.store.files.feature_spool import FeatureSpool

BLOCK_BYTES = 32 << 20
"""Features that a rank holds at a time, sending or receiving."""


def even_shares(n_rows: int, n_writers: int) -> list[tuple[int, int]]:
    """First and last (excluded) row of each writer's share."""
    return [(n_rows * w // n_writers, n_rows * (w + 1) // n_writers) for w in range(n_writers)]


def blocks_for_writers(
    comm: MPI.Intracomm,
    spool: FeatureSpool,
    level: int,
    own_rows: npt.NDArray[np.int64],
    width: int,
    shares: Sequence[tuple[int, int]],
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Blocks of consecutive rows of one level for this rank to write. Collective, block by block.

    Parameters
    ----------
    spool
        This rank's features; row i of the level belongs at ``own_rows[i]`` of the result.
    level
        Analysis level.
    own_rows
        int64 (n,), distinct over all ranks and together all rows of the level.
    width
        Length F of a vector.
    shares
        Rows [first, last) that each of the ranks 0, 1, ... writes; ranks beyond the list write nothing.

    Yields
    ------
    first_row : int
        Where the block belongs.
    features : numpy.ndarray
        float32 (m, F); m is 0 on ranks that have nothing to write in this round. All ranks get the same number of
        blocks.
    """
    order = np.argsort(own_rows)
    ordered = own_rows[order]
    # at worst one rank holds all rows of a round, and one writer gets as many
    per_writer = max(1, BLOCK_BYTES // (4 * width * len(shares)))
    longest = max(last - first for first, last in shares)
    for start in range(0, longest, per_writer):
        windows = [(min(first + start, last), min(first + start + per_writer, last)) for first, last in shares]
        windows += [(0, 0)] * (comm.size - len(shares))
        cuts = [np.searchsorted(ordered, window) for window in windows]
        mine = np.concatenate([order[a:b] for a, b in cuts])
        features = spool.read(level, mine, width)
        counts = [int(b - a) for a, b in cuts]
        rows = all_to_all_rows(comm, own_rows[mine].reshape(-1, 1), counts)[:, 0]
        received = all_to_all_rows(comm, features, counts)
        first, last = windows[comm.rank]
        block = np.empty((last - first, width), np.float32)
        block[rows - first] = received
        yield first, block
