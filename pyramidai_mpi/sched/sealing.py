"""Messages with a checksum of their own: what memory or a network has changed on the way is found, not worked with.

Networks check what they carry, piece by piece; between their checks lie buffers of adapters, drivers and both
processes. A task with another column would be work that nobody asked for, a record with another decision would promise
children that nobody does: the run would wait for them for ever.
"""

from __future__ import annotations

import zlib

from pyramidai_mpi.base.errors import StorageError

_BYTES = 4


def sealed(data: bytes) -> bytes:
    """A message with its CRC-32 behind it."""
    return b"".join((data, zlib.crc32(data).to_bytes(_BYTES, "little")))


def unsealed(data: bytearray, source: int) -> bytearray:
    """Inverse of `sealed`, for a message from the rank `source`; the array is the caller's, and is shortened.

    Raises
    ------
    StorageError
        When it is not what was sent.
    """
    seal = bytes(data[-_BYTES:])
    del data[-_BYTES:]
    if len(seal) < _BYTES or zlib.crc32(data) != int.from_bytes(seal, "little"):
        raise StorageError(
            f"a message of {len(data)} bytes from rank {source} has arrived otherwise than it was sent: see to the "
            "memory of both hosts and the network between them; what was done is kept, and --resume goes on from it"
        )
    return data
