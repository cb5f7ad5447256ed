"""Changes of TIFF files by their structure: entries of directories, bytes of tiles behind their codec."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TAGS = (
    254, 255, 256, 257, 258, 259, 262, 266, 270, 273, 274, 277, 278, 279, 282, 283, 284, 296, 305, 317, 320, 322,
    323, 324, 325, 330,
    338, 339, 347, 530, 531, 532, 34675, 34925, 32997, 32998,
)  # fmt: skip
_VALUES = (
    0,
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    16,
    32,
    255,
    256,
    32773,
    32946,
    33003,
    33005,
    34712,
    34887,
    50000,
    50001,
    65535,
    2**31,
    2**32 - 1,
)
_CODECS = (1, 5, 6, 7, 8, 32773, 32946, 33003, 33005, 34712, 34887, 34892, 34925, 50000, 50001, 50002, 52546)
_COMPRESSION, _DEFLATE = 259, {8, 32946}
_OFFSETS, _COUNTS = {273, 324}, {279, 325}


class _Entry(NamedTuple):
    """A field of a directory: where it stands, and what it says."""

    at: int
    tag: int
    kind: int
    count: int
    values_at: int


def mutate_tiff(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """One to three changes; of what is no TIFF any bytes are changed."""
    for _ in range(chance.randint(1, 3)):
        data = _changed(data, chance, blind)
    return data


def _changed(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    entries = _entries(data, order) if order else []
    if not entries or order is None:
        return blind(data)
    entry = chance.choice(entries)
    kind = chance.randrange(8)
    buffer = bytearray(data)
    if kind == 0:
        struct.pack_into(f"{order}H", buffer, entry.at, chance.choice(_TAGS))
    elif kind == 1:
        struct.pack_into(f"{order}H", buffer, entry.at + 2, chance.choice([*_SIZES, 0, 14, 255]))
    elif kind == 2:
        count = chance.choice([0, 1, 2, entry.count + 1, max(entry.count - 1, 0), 1000, 2**16, 2**28, 2**32 - 1])
        struct.pack_into(f"{order}I", buffer, entry.at + 4, count)
    elif kind in {3, 4}:
        _set_value(buffer, order, entry, chance)
    elif kind == 5:
        codecs = [one for one in entries if one.tag == _COMPRESSION]
        if codecs:
            struct.pack_into(f"{order}H", buffer, chance.choice(codecs).values_at, chance.choice(_CODECS))
    else:
        return _with_other_tile(data, order, entries, chance, blind)
    return bytes(buffer)


def _entries(data: bytes, order: str) -> list[_Entry]:
    """All fields of the chain of directories."""
    found: list[_Entry] = []
    seen: set[int] = set()
    (place,) = struct.unpack_from(f"{order}I", data, 4) if len(data) >= 8 else (0,)
    while place > 0 and place + 2 <= len(data) and place not in seen and len(seen) < 20:
        seen.add(place)
        (n,) = struct.unpack_from(f"{order}H", data, place)
        for at in range(place + 2, min(place + 2 + 12 * n, len(data) - 15), 12):
            tag, kind, count = struct.unpack_from(f"{order}HHI", data, at)
            is_inline = count * _SIZES.get(kind, 1) <= 4
            values_at = at + 8 if is_inline else struct.unpack_from(f"{order}I", data, at + 8)[0]
            found.append(_Entry(at, tag, kind, count, values_at))
        following = place + 2 + 12 * n
        (place,) = struct.unpack_from(f"{order}I", data, following) if following + 4 <= len(data) else (0,)
    return found


def _set_value(buffer: bytearray, order: str, entry: _Entry, chance: Random) -> None:
    """Another number among a field's values; of one that lies elsewhere perhaps another place."""
    size = _SIZES.get(entry.kind, 1)
    code = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
    at = entry.values_at + size * chance.randrange(max(min(entry.count, 64), 1))
    if entry.values_at != entry.at + 8 and chance.random() < 0.3:
        at, code, size = entry.at + 8, "I", 4
    if at + size > len(buffer):
        return
    (now,) = struct.unpack_from(f"{order}{code}", buffer, at)
    number = chance.choice([*_VALUES, now + 1, now - 1, now * 2, now // 2, len(buffer), len(buffer) - 1])
    struct.pack_into(f"{order}{code}", buffer, at, number % 256**size)


def _with_other_tile(
    data: bytes, order: str, entries: list[_Entry], chance: Random, blind: Callable[[bytes], bytes]
) -> bytes:
    """A stored tile or strip with other bytes, put at the end of the file."""
    places = [entry for entry in entries if entry.tag in _OFFSETS and _SIZES.get(entry.kind) == 4]
    if not places:
        return blind(data)
    place = chance.choice(places)
    lengths = [one for one in entries if one.tag in _COUNTS and one.at > place.at]
    if not lengths:
        return blind(data)
    length = lengths[0]
    n = chance.randrange(max(min(place.count, length.count, 64), 1))
    size = _SIZES.get(length.kind, 4)
    code = {2: "H", 4: "I"}.get(size)
    at, its_length = place.values_at + 4 * n, length.values_at + size * n
    if code is None or at + 4 > len(data) or its_length + size > len(data):
        return blind(data)
    (start,), (n_bytes,) = (
        struct.unpack_from(f"{order}I", data, at),
        struct.unpack_from(f"{order}{code}", data, its_length),
    )
    tile = data[start : start + n_bytes]
    codec = next((one for one in entries if one.tag == _COMPRESSION), None)
    compression = (
        struct.unpack_from(f"{order}H", data, codec.values_at)[0] if codec and codec.values_at + 2 <= len(data) else 1
    )
    made = _other_tile(tile, compression, chance, blind)
    buffer = bytearray(data) + made
    struct.pack_into(f"{order}I", buffer, at, len(data))
    struct.pack_into(f"{order}{code}", buffer, its_length, len(made) % 256**size)
    return bytes(buffer)


def _other_tile(tile: bytes, compression: int, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    if compression in _DEFLATE:
        try:
            plain = zlib.decompress(tile)
        except zlib.error:
            return blind(tile)
        return zlib.compress(chance.choice([blind(plain), plain[:-1], plain * 2, bytes(1 << 20), plain + b"\0"]), 9)
    if compression == 7 and len(tile) > 20:  # JPEG: sizes, components and samplings are in its frame
        frame = max(tile.find(b"\xff\xc0"), 0)
        at = frame + 4 + chance.randrange(min(15, len(tile) - frame - 5))
        return tile[:at] + bytes([chance.choice([0, 1, 2, 3, 17, 34, 68, 255, 4, 8, 12])]) + tile[at + 1 :]
    if compression in {33003, 33005} and len(tile) > 60:  # JPEG 2000: sizes of image, tiles and components
        at = chance.randrange(4, 60)
        return tile[:at] + bytes([chance.choice([0, 1, 2, 4, 255, 128])]) + tile[at + 1 :]
    return chance.choice([blind(tile), tile[: len(tile) // 2], tile * 2])
