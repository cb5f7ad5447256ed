"""Patches for torch's loaders, shuffled group by group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from torch.utils.data import IterableDataset, get_worker_info

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.patches.dataset import PatchDataset


class PatchStream(IterableDataset[tuple[Any, ...]]):
    """The items of a data set in shuffled order, for a ``torch.utils.data.DataLoader``; see `PatchDataset.shuffled`.

    Ranks have disjoint shares, which together are the whole; so have the workers of a loader, forked or spawned. The
    order follows from seed, epoch, share and number of workers: more workers are more streams, of which the loader
    takes turns, so each patch still comes once, but in another order. Decoding each group once does not allow more.

    Parameters
    ----------
    data
        The data set.
    seed
        Whole number from 0.
    rank, world
        Which share of how many; None takes those of ``torch.distributed`` where that is in use, else all.
    window
        See `PatchDataset.shuffled`; each worker has a window of its own.

    Raises
    ------
    UsageError
        When there is no such share.

    Examples
    --------
    >>> loader = DataLoader(PatchStream(data, seed=1), batch_size=32, num_workers=4)  # doctest: +SKIP
    >>> for epoch in range(10):  # doctest: +SKIP
    ...     loader.dataset.set_epoch(epoch)
    ...     for pixels, labels in loader: ...
    """

    def __init__(
        self,
        data: PatchDataset,
        seed: int = 0,
        *,
        rank: int | None = None,
        world: int | None = None,
        window: int | None = None,
    ) -> None:
        super().__init__()
        if (rank is None) != (world is None):
            raise UsageError("rank and world: give both, or neither")
        in_use = rank is None and distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if in_use else rank or 0
        self.world = distributed.get_world_size() if in_use else world or 1
        self.data, self.seed, self.window = data, seed, window
        data.share_size(seed, 0, rank=self.rank, world=self.world)
        # in shared memory: workers that live on from epoch to epoch see it, too
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next; else each has the order of the first."""
        self._epoch[0] = epoch

    def __len__(self) -> int:
        return self.data.share_size(self.seed, int(self._epoch[0]), rank=self.rank, world=self.world)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        worker = get_worker_info()
        number, n = (0, 1) if worker is None else (worker.id, worker.num_workers)
        return self.data.shuffled(
            self.seed,
            int(self._epoch[0]),
            rank=self.rank + self.world * number,  # so that a rank's share is the same for any number of workers
            world=self.world * n,
            window=self.window,
        )
