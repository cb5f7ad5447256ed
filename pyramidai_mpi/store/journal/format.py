"""What one rank has finished so far, in an append-only file that is good at whatever moment its writer dies.

A file is a head and then frames, one a batch. The head says what the records look like. A frame is ::

    mark        4 bytes   b"PJF2"
    number      uint32    0, 1, 2 ... within the file
    slide       uint64    which run of which slide: the tag of its manifest
    tiles       uint32    records of tiles in the payload
    failed      uint32    records of unreadable tiles in the payload
    length      uint32    bytes of the payload
    head check  uint32    CRC-32 of the fields before
    payload               tiles, unreadable tiles, features (float32), other bytes kept, one after the other
    check       8 bytes   BLAKE2b of frame head and payload, with the head's own check as key

Everything is little-endian. A frame goes out in one `write`, so whoever dies leaves at most its last frame torn. Damage
with an intact frame somewhere after it is no torn end, and the file is refused. The key keeps frames of one file from
passing for those of another.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pyramidai_mpi.base.types import kept_lengths

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

VERSION = 2
MAGIC = b"pyramidai-journ\n"
HEAD = struct.Struct("<16sII")
"""Magic, version, length of the description that follows; after that, the check."""
MARK = b"PJF2"
FRAME = struct.Struct("<4sIQIIII")
CHECK_BYTES = 8
MOST_KEY_BYTES = 64
"""What BLAKE2b takes."""
MOST_PAYLOAD_BYTES = 1 << 30


@dataclass(frozen=True)
class RecordFormat:
    """What the records of a journal look like.

    Attributes
    ----------
    record, failed
        Packed types of a tile that was done and of an unreadable tile; the former has a field ``level``, and perhaps
        one that says how many bytes more are kept of it (`base.types.KEPT_BYTES`).
    widths
        Length of each level's feature vectors, 0 where none are kept.
    """

    record: np.dtype[np.void]
    failed: np.dtype[np.void]
    widths: tuple[int, ...]

    def to_bytes(self) -> bytes:
        """The format as canonical JSON."""
        description = {"record": self.record.descr, "failed": self.failed.descr, "features": self.widths}
        return json.dumps(description, sort_keys=True, separators=(",", ":")).encode()

    def payload_bytes(self, records: npt.NDArray[np.void], n_failed: int) -> int:
        """Length of the payload of tiles (n,) of one level, n > 0, so many of them unreadable."""
        per_tile = self.record.itemsize + 4 * self.widths[int(records["level"][0])]
        return len(records) * per_tile + n_failed * self.failed.itemsize + int(kept_lengths(records).sum())


class FrameHead(NamedTuple):
    """The fields before a frame's payload."""

    mark: bytes
    number: int
    slide: int
    n_tiles: int
    n_failed: int
    length: int
    head_check: int


def file_head(description: bytes, name: str) -> tuple[bytes, bytes]:
    """A file's head, and the key of its frames, which goes with its name as well."""
    head = HEAD.pack(MAGIC, VERSION, len(description)) + description
    key = check_of(head, name.encode()[-MOST_KEY_BYTES:])
    return head + key, key


def frame_of(number: int, slide: int, n_tiles: int, n_failed: int, payload: bytes, key: bytes) -> bytes:
    """A whole frame."""
    head = struct.pack("<4sIQIII", MARK, number, slide, n_tiles, n_failed, len(payload))
    body = head + struct.pack("<I", zlib.crc32(head)) + payload
    return body + check_of(body, key)


def parse_frame_head(data: bytes) -> FrameHead | None:
    """The fields of a frame's head, None when it is not intact."""
    if len(data) < FRAME.size:
        return None
    head = FrameHead(*FRAME.unpack(data))
    if head.mark != MARK or head.head_check != zlib.crc32(data[:-4]) or head.length > MOST_PAYLOAD_BYTES:
        return None
    return head


def check_of(data: bytes, key: bytes) -> bytes:
    """Checksum of a file's head, or with its key of one of its frames."""
    return hashlib.blake2b(data, digest_size=CHECK_BYTES, key=key).digest()
