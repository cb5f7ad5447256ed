"""What ranks tell each other of tiles that are computed twice: which ones, and what each has found.

Whoever does a chosen tile first says what it found as it found it, beside the record that goes to journal and owner;
whoever does it again says the same of its own. What differs then tells who is to blame: the pixels that were read, what
was computed of them, or the way to the owner.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.base.types import TILE_DTYPE, Decision
from pyramidai_mpi.pyramid.audited import AuditChoice

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import Analysis, Look
    from pyramidai_mpi.base.types import TileArray

EARLIER = -1
"""Stands for the ranks of an earlier start of the run, whose journals are gone on from."""
_HEAD = struct.Struct("<II")
_MOST_VALUES = 16
_U4 = np.dtype("<u4")


@dataclass(frozen=True)
class Audit:
    """A share of the tiles of a run is computed again, by another rank than the one that did it first.

    Attributes
    ----------
    share
        Of all tiles, above 0, up to 1.
    seed
        Of the choice.
    hosts, processors
        Of each rank. Only ranks of the same processor give the same bits.
    fresh
        Loads the analysis anew, for a rank that nobody else can audit.
    """

    share: float
    seed: int
    hosts: Sequence[str]
    processors: Sequence[str]
    fresh: Callable[[], Analysis]

    def choice(self, quickhash: str) -> AuditChoice:
        """Which tiles of a slide."""
        return AuditChoice(self.share, self.seed, quickhash)

    @property
    def is_alike(self) -> bool:
        """Whether all ranks have the same processor."""
        return len(set(self.processors)) == 1

    def peers(self, rank: int) -> list[int]:
        """Ranks that can audit what a rank has done, of other hosts first; all of `EARLIER`."""
        everyone = range(len(self.hosts))
        if rank == EARLIER:
            return [*everyone]
        alike = [peer for peer in everyone if peer != rank and self.processors[peer] == self.processors[rank]]
        return sorted(alike, key=lambda peer: self.hosts[peer] == self.hosts[rank])

    def is_elsewhere(self, peer: int, rank: int) -> bool:
        """Whether two ranks are on different hosts."""
        return rank != EARLIER and self.hosts[peer] != self.hosts[rank]

    def name_of(self, rank: int) -> str:
        """A rank, for messages."""
        return "an earlier start of the run" if rank == EARLIER else f"rank {rank} (host {self.hosts[rank]})"


class Witness(NamedTuple):
    """What a rank has found of n tiles of one level.

    Attributes
    ----------
    tasks
        The tiles, (n,) of `Analysis.task`.
    records
        (n,) of `Analysis.record`.
    pixels, features
        CRC-32 of the pixels that were read, and of the features, uint32 (n,).
    """

    tasks: TileArray
    records: npt.NDArray[np.void]
    pixels: npt.NDArray[np.uint32]
    features: npt.NDArray[np.uint32]

    @classmethod
    def of(cls, tiles: TileArray, look: Look, checked: npt.NDArray[np.bool_]) -> Witness:
        """Of the tiles that are checked, bool (n,)."""
        assert look.pixels is not None
        features = np.zeros(int(checked.sum()), np.uint32)
        if look.features is not None:
            vectors = np.ascontiguousarray(look.features[checked], "<f4")
            features[:] = [zlib.crc32(vector) for vector in vectors]
        return cls(tiles[checked], look.records[checked], look.pixels[checked], features)

    def to_bytes(self, ticket: int = 0) -> bytes:
        """On the wire: ticket and number of tiles (uint32 each), then the four arrays."""
        arrays = (self.tasks, self.records, self.pixels.astype("<u4"), self.features.astype("<u4"))
        return _HEAD.pack(ticket, len(self.tasks)) + b"".join(array.tobytes() for array in arrays)

    @classmethod
    def from_bytes(cls, data: bytes, analysis: Analysis) -> tuple[int, Witness]:
        """Inverse of `to_bytes`; raises `InternalError` when the bytes are no such message."""
        ticket, (tasks, records, pixels, features) = _parsed(data, [analysis.task, analysis.record, _U4, _U4])
        return ticket, cls(tasks, records, pixels, features)


def order_bytes(ticket: int, fresh: int, tasks: TileArray) -> bytes:
    """An order on the wire: do these tiles of one level, (n,), again.

    Parameters
    ----------
    ticket
        Comes back with the answer.
    fresh
        0 for the networks at hand, else which of the copies that are loaded anew for this alone.
    """
    return _HEAD.pack(ticket, len(tasks)) + struct.pack("<I", fresh) + tasks.tobytes()


def order_from_bytes(data: bytes, task: np.dtype[np.void]) -> tuple[int, int, TileArray]:
    """Inverse of `order_bytes`; raises `InternalError` when the bytes are no such message."""
    head = _HEAD.size
    ticket, (tasks,) = _parsed(data[:head] + data[head + 4 :], [task])
    return ticket, int.from_bytes(data[head : head + 4], "little"), tasks.copy()


def _parsed(data: bytes, types: Sequence[np.dtype[Any]]) -> tuple[int, list[npt.NDArray[Any]]]:
    if len(data) < _HEAD.size:
        raise InternalError(f"a message of {len(data)} bytes about tiles to compare")
    ticket, n = _HEAD.unpack_from(data)
    if len(data) != _HEAD.size + n * sum(one.itemsize for one in types):
        raise InternalError(f"a message of {len(data)} bytes about {n} tiles to compare")
    arrays, at = [], _HEAD.size
    for one in types:
        arrays.append(np.frombuffer(data, one, n, at))
        at += n * one.itemsize
    return ticket, arrays


def record_in_words(record: npt.NDArray[np.void]) -> str:
    """What a record (1,) says of its tile, for people: its short fields, float32 with all their digits."""
    said = []
    for name in record.dtype.names or ():
        values = np.atleast_1d(record[name][0])
        if name in (TILE_DTYPE.names or ()) or not 0 < values.size <= _MOST_VALUES:
            continue
        if name == "decision":
            said.append(f"decision {Decision(int(values[0])).name.lower()}")
        else:
            texts = [f"{value:.9g}" if values.dtype.kind == "f" else str(value) for value in values.ravel().tolist()]
            said.append(f"{name} {', '.join(texts)}")
    return "; ".join(said) or f"record {zlib.crc32(record.tobytes()):08x}"
