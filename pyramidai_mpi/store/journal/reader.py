"""Reading journals back: all that is intact, up to a torn end; damage before that is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, own_file_errors
from pyramidai_mpi.base.types import kept_lengths, tile_keys
from pyramidai_mpi.store.journal.format import (
    CHECK_BYTES,
    FRAME,
    HEAD,
    MAGIC,
    MARK,
    VERSION,
    FrameHead,
    check_of,
    file_head,
    parse_frame_head,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.journal.format import RecordFormat

_MOST_HEAD_BYTES = 1 << 16
_WINDOW_BYTES = 1 << 20
_WHAT_TO_DO = "remove that file, and --resume does its tiles again; or start afresh with --overwrite"


FRAME_DTYPE = np.dtype(
    [
        ("slide", "<u8"),
        ("file", "<u4"),
        ("level", "u1"),
        ("at", "<u8"),
        ("length", "<u4"),
        ("tiles", "<u4"),
        ("failed", "<u4"),
    ]
)
"""One frame of a journal: the tag of its slide, the file's number, the level of its tiles, where its payload begins and
how long it is, and how many tiles and unreadable tiles it holds."""


def scan_file(path: Path, number: int, record_format: RecordFormat) -> npt.NDArray[np.void]:
    """Look through all of a file: `FRAME_DTYPE` records (n,) of its intact frames, but for a torn end.

    Parameters
    ----------
    number
        Of the file, for the records.
    record_format
        Of the run. A file whose records look otherwise is of other runs only, and gives none, like one that another run
        has removed since it was listed, as no slide needs it any more.

    Raises
    ------
    InputError
        When the file is damaged before its end, or no journal.
    """
    with own_file_errors(path):
        try:
            opened = _OpenFile(path)
        except FileNotFoundError:
            return np.empty(0, FRAME_DTYPE)
        with opened as file:
            frames = [
                (head.slide, number, level, at, head.length, head.n_tiles, head.n_failed)
                for head, level, at in _frames(file, record_format)
            ]
    return np.array(frames, FRAME_DTYPE)


@dataclass(frozen=True)
class SlideFrames:
    """The frames of one slide's run in its journals.

    Attributes
    ----------
    files
        All files of the journals, by number.
    frames
        `FRAME_DTYPE` records (n,) of the slide's frames, oldest first.
    record_format
        Of the files.
    """

    files: Sequence[Path]
    frames: npt.NDArray[np.void]
    record_format: RecordFormat

    def records(self) -> npt.NDArray[np.void]:
        """Records of all tiles, oldest first.

        Raises
        ------
        InputError
            When they cannot be read.
        """
        found = [np.empty(0, self.record_format.record)]
        found += [records for _, records, _ in self._read()]
        return np.concatenate(found)

    def batches(
        self, kept: npt.NDArray[np.bool_]
    ) -> Iterator[tuple[npt.NDArray[np.void], npt.NDArray[np.void], npt.NDArray[np.float32] | None, bytes]]:
        """Frame by frame those of the tiles that count, the reasons of the unreadable ones among them, what is kept.

        The latter are their features, and the other bytes that are kept of them, one after the other. Only the frame in
        hand is in memory.

        Parameters
        ----------
        kept
            bool (N,) for `records`.

        Raises
        ------
        InputError
            When they cannot be read.
        """
        start = 0
        for frame, records, tail in self._read(with_tail=True):
            counts = kept[start : start + len(records)]
            start += len(records)
            failed = np.frombuffer(tail, self.record_format.failed, int(frame["failed"]))
            width = self.record_format.widths[int(frame["level"])]
            vectors = np.frombuffer(tail, "<f4", len(records) * width, failed.nbytes).reshape(len(records), width)
            chosen = records[counts]
            kept_bytes = _of_those(counts, kept_lengths(records), memoryview(tail)[failed.nbytes + vectors.nbytes :])
            yield (
                chosen,
                failed[np.isin(tile_keys(failed), tile_keys(chosen))],
                vectors[counts] if width else None,
                kept_bytes,
            )

    def _read(self, *, with_tail: bool = False) -> Iterator[tuple[np.void, npt.NDArray[np.void], bytes]]:
        """Each frame, its records, and the rest of its payload if that is wanted."""
        record = self.record_format.record
        for number, of_file in groupby(self.frames, key=lambda frame: int(frame["file"])):
            path = self.files[number]
            with own_file_errors(path), _OpenFile(path) as file:
                for frame in of_file:
                    n_tiles = int(frame["tiles"])
                    length = int(frame["length"]) if with_tail else n_tiles * record.itemsize
                    data = file.read(int(frame["at"]), length)
                    if len(data) != length:
                        raise InputError(f"{path}: has become shorter; is somebody else at work on it?")
                    yield frame, np.frombuffer(data, record, n_tiles), data[n_tiles * record.itemsize :]


def _of_those(counts: npt.NDArray[np.bool_], lengths: npt.NDArray[np.int64], kept: memoryview) -> bytes:
    """The bytes of those tiles that count, of the bytes of all tiles."""
    ends = np.cumsum(lengths)
    return b"".join(kept[end - length : end] for end, length in zip(ends[counts], lengths[counts], strict=True))


class _OpenFile:
    """A file read by position. Not mapped into memory: there a failing disk would end the process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> _OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, at: int, length: int) -> bytes:
        """At most `length` bytes from `at` on; less only where the file ends."""
        pieces = []
        while length > 0 and (piece := os.pread(self._descriptor, min(length, _WINDOW_BYTES), at)):
            pieces.append(piece)
            at, length = at + len(piece), length - len(piece)
        return b"".join(pieces)


def _frames(file: _OpenFile, record_format: RecordFormat) -> Iterator[tuple[FrameHead, int, int]]:
    """Head of each frame, the level of its tiles, and where its payload begins."""
    key, description = _read_head(file)
    if key is None or description != record_format.to_bytes():
        return
    at = HEAD.size + len(description) + CHECK_BYTES
    number = 0
    while at < file.size:
        frame = _read_frame(file, at, key)
        if frame is None:
            _refuse_unless_torn(file, at, key)
            return
        head, payload = frame
        if head.number != number:
            raise InputError(f"{file.path}: record {head.number} follows record {number - 1}; {_WHAT_TO_DO}")
        yield head, _level_of(file, head, payload, record_format), at + FRAME.size
        at += FRAME.size + len(payload) + CHECK_BYTES
        number += 1


def _read_head(file: _OpenFile) -> tuple[bytes | None, bytes]:
    """Key of the file's frames, None when the writer did not live to write the whole head; what it says of them."""
    magic, version, length = HEAD.unpack(file.read(0, HEAD.size).ljust(HEAD.size, b"\0"))
    found = file.read(HEAD.size, min(length, _MOST_HEAD_BYTES))
    whole, key = file_head(found, file.path.name)
    if file.read(0, len(whole)) != whole:
        if file.size >= HEAD.size and magic == MAGIC and version != VERSION:
            other = "a newer" if version > VERSION else "an older"
            raise InputError(
                f"{file.path}: journal of format {version}, which {other} version of this program wrote; finish with "
                "that one, or start afresh with --overwrite"
            )
        _refuse_unless_torn(file, 0, None)
        return None, b""
    return key, found


def _refuse_unless_torn(file: _OpenFile, damaged_at: int, key: bytes | None) -> None:
    intact_at = _next_frame(file, damaged_at + 1, key)
    if intact_at is not None:
        raise InputError(f"{file.path}: damaged at byte {damaged_at}, intact from byte {intact_at} on: {_WHAT_TO_DO}")


def _next_frame(file: _OpenFile, at: int, key: bytes | None) -> int | None:
    """First place from `at` on where an intact frame begins; of an unknown key, one whose head is intact."""
    while at < file.size:
        window = file.read(at, _WINDOW_BYTES)
        place = window.find(MARK)
        while place >= 0:
            if key is None:
                if _read_frame_head(file, at + place) is not None:
                    return at + place
            elif _read_frame(file, at + place, key) is not None:
                return at + place
            place = window.find(MARK, place + 1)
        if at + len(window) >= file.size:
            return None
        at += len(window) - len(MARK) + 1
    return None


def _read_frame_head(file: _OpenFile, at: int) -> FrameHead | None:
    return parse_frame_head(file.read(at, FRAME.size))


def _read_frame(file: _OpenFile, at: int, key: bytes) -> tuple[FrameHead, bytes] | None:
    """Head and payload of the frame at a place, None when it is not intact."""
    head = _read_frame_head(file, at)
    if head is None or at + FRAME.size + head.length + CHECK_BYTES > file.size:
        return None
    body = file.read(at, FRAME.size + head.length)
    if file.read(at + len(body), CHECK_BYTES) != check_of(body, key):
        return None
    return head, body[FRAME.size :]


def _level_of(file: _OpenFile, head: FrameHead, payload: bytes, record_format: RecordFormat) -> int:
    """Level that the tiles of a frame share."""
    if head.n_tiles and head.n_tiles * record_format.record.itemsize <= len(payload):
        records = np.frombuffer(payload, record_format.record, head.n_tiles)
        level = int(records["level"][0])
        if (
            level < len(record_format.widths)
            and (records["level"] == level).all()
            and record_format.payload_bytes(records, head.n_failed) == len(payload)
        ):
            return level
    raise InputError(f"{file.path}: record {head.number} says of itself what it does not hold; {_WHAT_TO_DO}")
