"""What ranks tell each other about slides, beside the scheduler's own messages.

A message is a header of 8 bytes (kind, slide) and a payload whose form the kind fixes. Nothing is pickled, and lengths
are checked on receipt.
"""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import asdict, dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pyramidai_mpi.analyses.base import NO_TIME, Seconds
from pyramidai_mpi.base.errors import ExitCode, InternalError, PyramidError, machine_failure, traceback_lines
from pyramidai_mpi.base.types import kept_lengths
from pyramidai_mpi.models.stain.map import StainMap
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.pyramid.cells import CellMarks
from pyramidai_mpi.pyramid.tissue import TissueSource, pack_mask, unpack_mask
from pyramidai_mpi.slides.readers.base import SlideInfo
from pyramidai_mpi.store.results.summary import SlideAccount

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

log = logging.getLogger(__name__)

_HEADER = struct.Struct("<II")
_OUTCOME = struct.Struct("<III")
_BATCH = struct.Struct("<III6d")
_TAG = struct.Struct("<Q")


class Kind(IntEnum):
    """What a message says of its slide."""

    OPENED = 1
    """Opener to owner: a `SlideDescription`."""
    REFUSED = 2
    """To the owner: this rank cannot open the slide, or not go on with it; a `SlideEnd`."""
    ASK = 3
    """To the owner: describe the slide to me. No payload."""
    DESCRIPTION = 4
    """Owner to whoever asked: tag of the slide's run (uint64), then a `SlideDescription`."""
    BEGIN = 5
    """Owner to opener: tag of the slide's run (uint64), then the tiles to begin with, records of `Analysis.task`."""
    RECORDS = 6
    """To the owner: batches that were done (see `encode_batch`), one after the other."""
    ENDED = 7
    """Owner to all: nothing more is wanted of the slide, since it ended badly. No payload."""
    DONE = 8
    """Owner to rank 0, and to who keeps a journal on another disk: the slide's end, good or bad; a `SlideEnd`."""
    WITNESS = 9
    """To the owner: what was found of tiles that are audited, before their records; a `witness.Witness`."""
    AUDIT = 10
    """Owner to another rank: do these tiles again (see `witness.order_bytes`)."""
    AUDITED = 11
    """To the owner: what was found then; a `witness.Witness`, without tiles where it was not done."""
    MANIFEST = 12
    """Owner to whoever keeps journals on another disk than its own: the manifest of the slide's, which has begun."""


@dataclass(frozen=True)
class SlideDescription:
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
    marks
        What is known of the cells of its grid, of an extraction of patches.
    raw_because
        See `analyses.base.OpenSlide`.
    """

    info: SlideInfo
    quickhash: str
    mpp: float
    host: str
    mask: npt.NDArray[np.bool_]
    stain: StainMap | None = None
    source: TissueSource = field(default_factory=TissueSource)
    marks: CellMarks = field(default_factory=CellMarks)
    raw_because: str = ""

    def to_bytes(self) -> bytes:
        """The description on the wire: length of the facts (uint32), facts as JSON, mask, marks."""
        marks = self.marks.to_bytes()
        facts = {
            "info": asdict(self.info) | {"path": str(self.info.path)},
            "quickhash": self.quickhash,
            "mpp": self.mpp,
            "host": self.host,
            "stain": None if self.stain is None else self.stain.to_json(),
            "source": self.source.to_json(),
            "marks": len(marks),
            "raw_because": self.raw_because,
        }
        text = json.dumps(facts).encode()  # ASCII: JSON escapes what is not, also bytes that are no text
        return struct.pack("<I", len(text)) + text + pack_mask(self.mask) + marks

    @classmethod
    def from_bytes(cls, data: bytes) -> SlideDescription:
        """Inverse of `to_bytes`.

        Raises
        ------
        InternalError
            When the bytes are no description.
        """
        try:
            return cls._parsed(data)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InternalError(f"a description of {len(data)} bytes that cannot be read: {error!r:.80}") from error

    @classmethod
    def _parsed(cls, data: bytes) -> SlideDescription:
        end = 4 + int.from_bytes(data[:4], "little")
        if len(data) < end + 16:
            raise InternalError(f"a description of {len(data)} bytes")
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
            mpp_flaw=described["mpp_flaw"],
            levels_in_file=tuple(described["levels_in_file"]),
            no_levels=tuple(tuple(size) for size in described["no_levels"]),
            openslide_quickhash1=described["openslide_quickhash1"],
            patches_digest=described["patches_digest"],
            slide_name=described["slide_name"],
            odd_levels=described["odd_levels"],
        )
        stain = None if facts["stain"] is None else StainMap.from_json(facts["stain"])
        source = TissueSource.from_json(facts["source"])
        last = len(data) - facts["marks"]
        if not end <= last <= len(data):
            raise InternalError(f"a description whose marks of cells are {facts['marks']} bytes")
        return cls(
            info=info,
            quickhash=facts["quickhash"],
            mpp=facts["mpp"],
            host=facts["host"],
            mask=unpack_mask(data[end:last]),
            stain=stain,
            source=source,
            marks=CellMarks.from_bytes(data[last:]),
            raw_because=facts["raw_because"],
        )


@dataclass(frozen=True)
class SlideEnd:
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

    @property
    def has_file(self) -> bool:
        """Whether what was to be made of the slide is in its place, if without tiles that could not be read."""
        return self.account is not None or self.exit_code in {ExitCode.OK, ExitCode.TILES_FAILED}

    @classmethod
    def by(cls, error: Exception, slide: str) -> SlideEnd:
        """How a slide has ended by an error that is no fault of the run's.

        What nobody foresaw is a bug, which ends this slide and not the others; its traceback goes to the log.

        Parameters
        ----------
        slide
            Its name, for messages.
        """
        blamed = error if isinstance(error, PyramidError) else machine_failure(error)
        if blamed is None or isinstance(blamed, InternalError):
            log.error("%s: fails, and no other slide, by what is a bug:%s", slide, traceback_lines(error))
            what = " ".join(f"{type(error).__name__}: {error}".split())
            return cls(
                ExitCode.INTERNAL,
                f"{slide}: failed by a bug; report it with the traceback in the log of host {host_name()}: {what}",
            )
        return cls(blamed.exit_code, str(blamed) if isinstance(error, PyramidError) else f"{slide}: {blamed}")

    def to_bytes(self) -> bytes:
        """On the wire: exit code, whether it was finished, length of the line (uint32 each); line; account."""
        line = self.line.encode(errors="surrogateescape")
        account = b"" if self.account is None else self.account.to_json().encode()
        return _OUTCOME.pack(self.exit_code, self.was_finished, len(line)) + line + account

    @classmethod
    def from_bytes(cls, data: bytes) -> SlideEnd:
        """Inverse of `to_bytes`.

        Raises
        ------
        InternalError
            When the bytes are no outcome.
        """
        try:
            exit_code, was_finished, length = _OUTCOME.unpack_from(data)
            line, account = data[_OUTCOME.size :][:length], data[_OUTCOME.size + length :]
            return cls(
                exit_code,
                line.decode(errors="surrogateescape"),
                SlideAccount.from_json(account.decode()) if account else None,
                bool(was_finished),
            )
        except (struct.error, ValueError, KeyError, TypeError, RecursionError) as error:
            raise InternalError(f"an outcome of {len(data)} bytes that cannot be read: {error!r:.80}") from error


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


@dataclass(frozen=True)
class Batch:
    """Tiles of one slide and level that were done together.

    Attributes
    ----------
    records, failed
        As in `analyses.base.Look`.
    features
        Likewise; None where none are kept, or where they stay on the rank that computed them.
    start_s, end_s
        When, in seconds from the start of the run's analysis.
    journal_s
        Seconds for the journal.
    seconds
        What the batch took besides.
    kept
        As in `analyses.base.Look`.
    """

    records: npt.NDArray[np.void]
    failed: npt.NDArray[np.void]
    features: npt.NDArray[np.float32] | None = None
    start_s: float = 0.0
    end_s: float = 0.0
    journal_s: float = 0.0
    seconds: Seconds = NO_TIME
    kept: bytes = b""


def encode_batch(batch: Batch) -> bytes:
    """A batch on the wire: numbers of tiles, of unreadable ones and of features a tile; times; the records of each.

    What else is kept of the tiles comes last, as many bytes as the records say.
    """
    width = 0 if batch.features is None else batch.features.shape[1]
    head = _BATCH.pack(
        len(batch.records), len(batch.failed), width, batch.start_s, batch.end_s, batch.journal_s, *batch.seconds
    )
    features = b"" if batch.features is None else np.ascontiguousarray(batch.features, "<f4").tobytes()
    return b"".join((head, batch.records.tobytes(), batch.failed.tobytes(), features, batch.kept))


def decode_batches(
    payload: bytes, record: np.dtype[np.void], failed: np.dtype[np.void], widths: Sequence[int]
) -> Iterator[Batch]:
    """Inverse of `encode_batch`, for all batches of a message.

    Parameters
    ----------
    record, failed, widths
        Types of the records, and the length of the feature vectors of each level.

    Raises
    ------
    InternalError
        When the payload is none.
    """
    at = 0
    while at < len(payload):
        try:
            n_tiles, n_failed, width, start_s, end_s, journal_s, *seconds = _BATCH.unpack_from(payload, at)
            at += _BATCH.size
            tiles = np.frombuffer(payload, record, n_tiles, at)
            at += tiles.nbytes
            unreadable = np.frombuffer(payload, failed, n_failed, at)
            at += unreadable.nbytes
            vectors = np.frombuffer(payload, "<f4", n_tiles * width, at).reshape(n_tiles, width)
            at += vectors.nbytes
            n_kept = int(kept_lengths(tiles).sum())
            kept = payload[at : at + n_kept]
            at += n_kept
        except (struct.error, ValueError) as error:
            raise InternalError(f"a message of {len(payload)} bytes that holds no batches: {error!r:.80}") from error
        if not n_tiles or width not in {0, *(widths[level] for level in tiles["level"][:1] if level < len(widths))}:
            raise InternalError(f"a batch of {n_tiles} tiles with {width} features each")
        if len(kept) != n_kept:
            raise InternalError(f"a batch with {len(kept)} of {n_kept} bytes that are kept of its tiles")
        vectors_if_any = vectors if width else None
        yield Batch(tiles, unreadable, vectors_if_any, start_s, end_s, journal_s, Seconds(*seconds), kept)


def tagged(tag: int, payload: bytes) -> bytes:
    """Payload after the tag of a slide's run."""
    return _TAG.pack(tag) + payload


def untagged(payload: bytes) -> tuple[int, bytes]:
    """Inverse of `tagged`; raises `InternalError` when the payload is shorter than a tag."""
    if len(payload) < _TAG.size:
        raise InternalError(f"a message of {len(payload)} bytes where the tag of a slide's run belongs")
    return _TAG.unpack_from(payload)[0], payload[_TAG.size :]


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
