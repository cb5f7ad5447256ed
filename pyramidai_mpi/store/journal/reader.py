"""Reading journals back: all that is intact, up to a torn end; damage before that is refused."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
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


@dataclass(frozen=True)
class Batch:
    """One frame of a file.

    Attributes
    ----------
    predictions, failed
        Records of the file's format; the predictions share one level.
    features_at
        Where in the file the features begin.
    """

    predictions: npt.NDArray[np.void]
    failed: npt.NDArray[np.void]
    features_at: int


def read_journal_file(path: Path, record_format: RecordFormat) -> list[Batch]:
    """All batches of a file; a torn end is left out.

    Raises
    ------
    InputError
        When the file is damaged before its end, of another run, or no journal.
    """
    try:
        with _OpenFile(path) as file:
            return list(_batches(file, record_format))
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}; check the disk and your rights"
        ) from error


def read_features(
    path: Path, batches: Sequence[Batch], widths: Sequence[int]
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Level and features float32 (n, F) of each of a file's batches whose level has any.

    Raises
    ------
    InputError
        When the file cannot be read.
    """
    try:
        with _OpenFile(path) as file:
            for batch in batches:
                level = int(batch.predictions["level"][0])
                n_tiles, width = len(batch.predictions), widths[level]
                if width:
                    data = file.read(batch.features_at, 4 * n_tiles * width)
                    yield level, np.frombuffer(data, "<f4").reshape(n_tiles, width)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}; check the disk and your rights") from error


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


def _batches(file: _OpenFile, record_format: RecordFormat) -> Iterator[Batch]:
    key = _read_head(file, record_format)
    if key is None:
        return
    at = HEAD.size + len(record_format.to_bytes()) + CHECK_BYTES
    number = 0
    while at < file.size:
        frame = _read_frame(file, at, key)
        if frame is None:
            _refuse_unless_torn(file, at, key)
            return
        head, payload = frame
        if head.number != number:
            raise InputError(f"{file.path}: record {head.number} follows record {number - 1}; {_WHAT_TO_DO}")
        yield _unpacked(file, at, head, payload, record_format)
        at += FRAME.size + len(payload) + CHECK_BYTES
        number += 1


def _read_head(file: _OpenFile, record_format: RecordFormat) -> bytes | None:
    """Key of the file's frames; None when the writer did not live to write the whole head."""
    magic, version, length = HEAD.unpack(file.read(0, HEAD.size).ljust(HEAD.size, b"\0"))
    found = file.read(HEAD.size, min(length, _MOST_HEAD_BYTES))
    whole, key = file_head(found)
    if file.read(0, len(whole)) != whole:
        if file.size >= HEAD.size and magic == MAGIC and version > VERSION:
            raise InputError(f"{file.path}: journal of format {version}, which a newer version of this program wrote")
        _refuse_unless_torn(file, 0, None)
        return None
    if found != record_format.to_bytes():
        raise InputError(f"{file.path}: belongs to another run; remove it, or start afresh with --overwrite")
    return key


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


def _unpacked(
    file: _OpenFile,
    at: int,
    head: FrameHead,
    payload: bytes,
    record_format: RecordFormat,
) -> Batch:
    n_tiles, n_failed = head.n_tiles, head.n_failed
    sizes = n_tiles * record_format.prediction.itemsize, n_failed * record_format.failed.itemsize
    if n_tiles and sum(sizes) <= len(payload):
        predictions = np.frombuffer(payload, record_format.prediction, n_tiles)
        level = int(predictions["level"][0])
        if (
            level < len(record_format.widths)
            and (predictions["level"] == level).all()
            and record_format.payload_bytes(level, n_tiles, n_failed) == len(payload)
        ):
            failed = np.frombuffer(payload, record_format.failed, n_failed, offset=sizes[0])
            return Batch(predictions, failed, at + FRAME.size + sum(sizes))
    raise InputError(f"{file.path}: record {head.number} says of itself what it does not hold; {_WHAT_TO_DO}")
