"""Which slides of a run are left to do, before the first of them is begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.ranks.collectives import allgather, gather_messages
from pyramidai_mpi.run.pool.messages import Kind, SlideEnd, decode, encode
from pyramidai_mpi.store.journal.folder import JournalFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.own_disks import JournalDisks
    from pyramidai_mpi.store.files.lock import LockWatch


def slides_left(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    disks: JournalDisks,
    watch: LockWatch,
    end_before: Callable[[int], SlideEnd | None],
    ended: Callable[[int, SlideEnd], None],
) -> npt.NDArray[np.int64]:
    """End slides that are finished already or whose file cannot be placed; numbers of the others. Collective.

    Parameters
    ----------
    disks
        Who sees the results' folder.
    watch
        Takes what is seen of the locks of other starts.
    end_before
        How a slide ends before anything is done, None where there is something to do. The ranks that see the folder
        share the slides.
    ended
        Called on rank 0 for each that ends.
    """
    ends = []
    left = np.zeros(len(each), np.int64)
    own = disks.ranks.owned(len(each))
    for slide in own:  # all before the first is waited for: their minutes pass at once
        watch.look(each[slide].output.path)
    if comm.rank == 0:
        JournalFolder.shared_beside(each[0].output.path).watch_starts(watch)
    disks.look()
    for slide in own:
        end = end_before(slide)
        if end is None:
            left[slide] = 1
        else:
            ends.append(encode(Kind.DONE, slide, end.to_bytes()))
    finished = []
    for message in gather_messages(comm, ends):
        _, slide, payload = decode(message)
        end = SlideEnd.from_bytes(payload)
        ended(slide, end)
        if end.was_finished:
            finished.append(slide)
    disks.tidy(finished)
    return np.flatnonzero(allgather(comm, left).sum(axis=0))
