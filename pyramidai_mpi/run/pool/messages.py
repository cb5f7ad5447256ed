"""What ranks tell each other about slides, beside the scheduler's own messages.

A message is a header of 8 bytes (kind, slide) and a payload whose form the kind fixes. Nothing is pickled, and lengths
are checked on receipt.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.models.stain.map import StainMap
from pyramidai_mpi.pyramid.tissue import TissueSource, pack_mask, unpack_mask
from pyramidai_mpi.slides.readers.base import SlideInfo
from pyramidai_mpi.store.results.summary import SlideAccount

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEADER = struct.Struct("<II")
_VERDICT = struct.Struct("<III")


class Kind(IntEnum):
    """What a message says of its slide."""

    OPENED = 1
    """Opener to owner: a `Passport`."""
    REFUSED = 2
    """To the owner: this rank cannot read the slide; a `Verdict`."""
    ASK = 3
    """To the owner: send me the passport. No payload."""
    PASSPORT = 4
    """Owner to whoever asked: a `Passport`."""
    PREDICTIONS = 5
    """To the owner: analysed tiles, records of `prediction_dtype`."""
    UNREADABLE = 6
    """To the owner, ahead of their predictions: `FAILED_DTYPE` records of unreadable tiles."""
    FEATURES = 7
    """To the owner, ahead of their predictions: level (uint32), then float32 rows."""
    DONE = 8
    """Owner to rank 0: the slide's end, good or bad; a `Verdict`."""
    BEGIN = 9
    """Owner to opener: the tiles to begin with, records of `TILE_DTYPE`; none when the slide has ended."""


@dataclass(frozen=True)
class Passport:
    """What a rank needs to know of a slide that another rank has opened.

    Attributes
    ----------
    info
        The slide's description.
    quickhash
        Of the slide; every rank that reads it compares this with the file that it sees.
    mpp
        µm per level-0 pixel that the run uses.
    host
        Where it was opened, for messages to the user.
    mask
        Tissue mask, bool (H, W).
    stain
        How its stain is normalised; None does nothing.
    source
        How the mask came about.
    """

    info: SlideInfo
    quickhash: str
    mpp: float
    host: str
    mask: npt.NDArray[np.bool_]
    stain: StainMap | None = None
    source: TissueSource = field(default_factory=TissueSource)

    def to_bytes(self) -> bytes:
        """The passport on the wire: length of the facts (uint32), facts as JSON, mask."""
        facts = {
            "info": asdict(self.info) | {"path": str(self.info.path)},
            "quickhash": self.quickhash,
            "mpp": self.mpp,
            "host": self.host,
            "stain": None if self.stain is None else self.stain.to_json(),
            "source": self.source.to_json(),
        }
        text = json.dumps(facts).encode()  # ASCII: JSON escapes what is not, also bytes that are no text
        return struct.pack("<I", len(text)) + text + pack_mask(self.mask)

    @classmethod
    def from_bytes(cls, data: bytes) -> Passport:
        """Inverse of `to_bytes`.

        Raises
        ------
        InternalError
            When the bytes are no passport.
        """
        try:
            return cls._parsed(data)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InternalError(f"a passport of {len(data)} bytes that cannot be read: {error!r:.80}") from error

    @classmethod
    def _parsed(cls, data: bytes) -> Passport:
        end = 4 + int.from_bytes(data[:4], "little")
        if len(data) < end + 16:
            raise InternalError(f"a passport of {len(data)} bytes")
        facts = json.loads(data[4:end])
        described = facts["info"]
        info = SlideInfo(
            path=Path(described["path"]),
            vendor=described["vendor"],
            l0_size=tuple(described["l0_size"]),
            stored_sizes=tuple(tuple(size) for size in described["stored_sizes"]),
            stored_downsamples=tuple(described["stored_downsamples"]),
            stored_exact=tuple(described["stored_exact"]),
            mpp=described["mpp"],
            l0_bounds=tuple(described["l0_bounds"]),
            reader=described["reader"],
        )
        stain = None if facts["stain"] is None else StainMap.from_json(facts["stain"])
        source = TissueSource.from_json(facts["source"])
        return cls(info, facts["quickhash"], facts["mpp"], facts["host"], unpack_mask(data[end:]), stain, source)


@dataclass(frozen=True)
class Verdict:
    """How a slide ended.

    Attributes
    ----------
    exit_code
        Of the command line.
    line
        For the user.
    account
        Of a slide that has its result; None for one that has failed.
    was_finished
        Whether an earlier start had finished it, so that nothing was done.
    """

    exit_code: int
    line: str
    account: SlideAccount | None = None
    was_finished: bool = False

    def to_bytes(self) -> bytes:
        """On the wire: exit code, whether it was finished, length of the line (uint32 each); line; account."""
        line = self.line.encode(errors="surrogateescape")
        account = b"" if self.account is None else self.account.to_json().encode()
        return _VERDICT.pack(self.exit_code, self.was_finished, len(line)) + line + account

    @classmethod
    def from_bytes(cls, data: bytes) -> Verdict:
        """Inverse of `to_bytes`.

        Raises
        ------
        InternalError
            When the bytes are no verdict.
        """
        try:
            exit_code, was_finished, length = _VERDICT.unpack_from(data)
            line, account = data[_VERDICT.size :][:length], data[_VERDICT.size + length :]
            return cls(
                exit_code,
                line.decode(errors="surrogateescape"),
                SlideAccount.from_json(account.decode()) if account else None,
                bool(was_finished),
            )
        except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InternalError(f"a verdict of {len(data)} bytes that cannot be read: {error!r:.80}") from error


def encode(kind: Kind, slide: int, payload: bytes = b"") -> bytes:
    """A message."""
    return _HEADER.pack(kind, slide) + payload


def decode(data: bytes | bytearray) -> tuple[Kind, int, bytes]:
    """Kind, slide and payload of a message.

    Raises
    ------
    InternalError
        When it is none.
    """
    if len(data) < _HEADER.size:
        raise InternalError(f"a message of {len(data)} bytes about a slide")
    kind, slide = _HEADER.unpack_from(data)
    try:
        return Kind(kind), slide, bytes(data[_HEADER.size :])
    except ValueError as error:
        raise InternalError(f"a message of kind {kind} about slide {slide}") from error


def encode_features(level: int, features: npt.NDArray[np.float32]) -> bytes:
    """Payload of a `Kind.FEATURES` message."""
    return struct.pack("<I", level) + features.tobytes()


def decode_features(payload: bytes, widths: Sequence[int]) -> tuple[int, npt.NDArray[np.float32]]:
    """Inverse of `encode_features`; `widths` are the lengths of the vectors of each level.

    Raises
    ------
    InternalError
        When the payload is none.
    """
    level = int.from_bytes(payload[:4], "little")
    if len(payload) < 4 or level >= len(widths) or not widths[level] or (len(payload) - 4) % (4 * widths[level]):
        raise InternalError(f"{len(payload)} bytes are no features of level {level}")
    return level, np.frombuffer(payload, np.float32, offset=4).reshape(-1, widths[level])


def records(payload: bytes, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """Packed records of a payload, as an array of its own.

    Raises
    ------
    InternalError
        When the payload is no whole number of them.
    """
    if len(payload) % dtype.itemsize:
        raise InternalError(f"{len(payload)} bytes are no whole number of records of {dtype.itemsize}")
    return np.frombuffer(payload, dtype).copy()
