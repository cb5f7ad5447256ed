"""Which ranks see the same folder, where hosts share no files."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.process.host import machine_id
from pyramidai_mpi.ranks.collectives import agree, allgather, ranks_alike, share_messages

if TYPE_CHECKING:
    from pathlib import Path

    from mpi4py import MPI

_PATIENCE_S = 0.5
"""How long a file that was just made may be late on another host. Where one is later yet, its lock tells."""


@dataclass(frozen=True)
class RanksByDisk:
    """Ranks in groups, each of which sees a folder of its own under the same name.

    Attributes
    ----------
    rank
        Who asks.
    groups
        Ranks in order; groups by their lowest rank, so that the first one is rank 0's.
    owners
        Those of rank 0's group that see to slides.
    """

    rank: int
    groups: tuple[tuple[int, ...], ...]
    owners: tuple[int, ...]

    @classmethod
    def together(cls, rank: int, size: int) -> Self:
        """All ranks see the same folder."""
        return cls(rank, (tuple(range(size)),), tuple(range(size)))

    @property
    def are_together(self) -> bool:
        """Whether all see the same folder."""
        return len(self.groups) == 1

    @property
    def home(self) -> tuple[int, ...]:
        """Ranks that see rank 0's folder, where the results go."""
        return self.groups[0]

    @property
    def leaders(self) -> tuple[int, ...]:
        """The lowest rank of each group."""
        return tuple(group[0] for group in self.groups)

    @property
    def leads(self) -> bool:
        """Whether this rank is the lowest of its group."""
        return self.rank in self.leaders

    @property
    def leads_elsewhere(self) -> bool:
        """Whether this rank is the lowest of a group that does not see rank 0's folder."""
        return self.rank in self.leaders[1:]

    def owner_of(self, slide: int) -> int:
        """Rank that sees to the slide of a number: one that sees rank 0's folder."""
        return self.owners[slide % len(self.owners)]

    def owned(self, n_slides: int) -> range:
        """Numbers of the slides that this rank sees to."""
        if self.rank not in self.owners:
            return range(0)
        return range(self.owners.index(self.rank), n_slides, len(self.owners))


def ranks_by_folder(comm: MPI.Intracomm, folder: Path, *, owners_are_near: bool = False) -> RanksByDisk:
    """Group the ranks by the folder that they see under a name. Collective.

    Device and inode tell on one machine. Several may number a shared folder's in different ways, so a rank of each kind
    puts a file of a name that nobody has looked for before into it, and the others look. Names of hosts would not do:
    one host may have several views of its files, and two may share a disk.

    Parameters
    ----------
    owners_are_near
        Slides are seen to on rank 0's machine alone, as others may share the folder but not the slides.

    Raises
    ------
    StorageError
        On all ranks, when one has no such folder, or cannot write there.
    """
    seen, error = b"", None
    try:
        found = folder.stat()
        seen = machine_id() + f"{found.st_dev} {found.st_ino}".encode()
    except OSError as failure:
        error = StorageError(f"{folder}: cannot be entered: {failure.strerror or failure}")
    agree(comm, error)
    alike = ranks_alike(comm, seen)
    firsts = allgather(comm, np.array([alike[0]]))[:, 0]  # of each rank's kind
    kinds = np.unique(firsts).tolist()
    if len(kinds) == 1:
        return RanksByDisk.together(comm.rank, comm.size)
    near = tuple(np.flatnonzero(firsts == 0).tolist())
    mark = folder / f".pyramidai-{secrets.token_hex(8)}.part" if comm.rank in kinds else None
    try:
        if mark is not None:
            try:
                mark.touch()
            except OSError as failure:
                error = StorageError(f"{folder}: cannot write there: {failure.strerror or failure}")
        agree(comm, error)
        names = [one.decode() for one in share_messages(comm, [] if mark is None else [mark.name.encode()])]
        row = np.zeros(len(kinds), np.int64) if mark is None else _seen(folder, names)
        everyone = allgather(comm, row)[kinds]
    finally:
        if mark is not None:
            mark.unlink(missing_ok=True)
    groups: dict[int, list[int]] = {}
    for rank, first in enumerate(firsts.tolist()):
        groups.setdefault(_lowest(everyone, kinds.index(first)), []).append(rank)
    in_order = tuple(sorted(tuple(ranks) for ranks in groups.values()))
    return RanksByDisk(comm.rank, in_order, near if owners_are_near else in_order[0])


def _seen(folder: Path, names: list[str]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Which of these files are seen, within the time that network file systems may take to tell of them."""
    end = time.monotonic() + _PATIENCE_S
    while True:
        row = np.array([(folder / name).exists() for name in names], np.int64)
        if row.all() or time.monotonic() > end:
            return row
        time.sleep(_PATIENCE_S / 10)


def _lowest(sees: np.ndarray[tuple[int, int], np.dtype[np.int64]], kind: int) -> int:
    """The lowest of the kinds that see each other, directly or by way of others, bool-like (kinds, kinds)."""
    found, new = {kind}, [kind]
    while new:
        one = new.pop()
        more = set(np.flatnonzero(sees[one] | sees[:, one]).tolist()) - found
        found |= more
        new.extend(more)
    return min(found)
