"""What makes a change of any bit of a result file show, and what a file may hold at all.

Three checks meet, each over what the others leave out. HDF5's newer structures (from 1.10 on) carry checksums over
everything but rows and texts. Rows carry Fletcher checksums, chunk by chunk, verified as they are read. Texts lie in a
heap without any: they enter the *seal*, a SHA-256 over all attributes and the layout of all tables, kept in the file.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pyramidai_mpi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_VERSIONS = ("v110", "v110")
"""Structures to write: the oldest that carry checksums throughout, which a cluster's HDF5 1.10 still reads."""

SEAL = "seal"
"""The root's attribute that holds the seal."""

_MOST_OBJECTS = 1000
_DEEPEST = 8
# gzip shrinks by 1032 at most: a table that claims more rows than its bytes can hold was made to exhaust the memory
_MOST_SHRINKING = 1100
# further filters would be libraries that HDF5 loads from wherever HDF5_PLUGIN_PATH points
_KNOWN_FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})


def objects_of(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group and table with its path, the root first, in the order of names.

    Raises
    ------
    InputError
        When the file reaches beyond itself (links to elsewhere, tables kept elsewhere), runs in circles, or holds what
        no result holds: other filters or types, or tables that claim more than their bytes could hold.
    """
    bytes_on_disk = file.id.get_filesize()
    seen: set[Any] = set()

    def visit(path: str, item: h5py.Group | h5py.Dataset, depth: int) -> Iterator[tuple[str, Any]]:
        place = h5py.h5o.get_info(item.id).addr
        if place in seen or depth > _DEEPEST or len(seen) >= _MOST_OBJECTS:
            raise InputError(f"{path} is there twice, or one of too many objects, which no result holds")
        seen.add(place)
        if isinstance(item, h5py.Dataset):
            _check_table(path, item, bytes_on_disk)
        yield path, item
        if isinstance(item, h5py.Group):
            for name in sorted(item):
                if not isinstance(item.get(name, getlink=True), h5py.HardLink):
                    raise InputError(f"{path}{name!r} is a link to elsewhere, which no result holds")
                if item.get(name, getclass=True) not in (h5py.Group, h5py.Dataset):
                    raise InputError(f"{path}{name!r} is neither group nor table")
                yield from visit(f"{path}{name}/", item[name], depth + 1)

    yield from visit("/", file["/"], 0)


def _check_table(path: str, table: h5py.Dataset, bytes_on_disk: int) -> None:
    properties = table.id.get_create_plist()
    if properties.get_layout() not in (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED):
        raise InputError(f"{path} is a view of tables elsewhere, which no result holds")
    if properties.get_external_count():
        raise InputError(f"{path} is kept in another file, which no result does")
    filters = {properties.get_filter(i)[0] for i in range(properties.get_nfilters())}
    if filters - _KNOWN_FILTERS:
        raise InputError(f"{path} needs the unknown filters {sorted(filters - _KNOWN_FILTERS)}")
    if table.dtype.hasobject or table.shape is None:
        raise InputError(f"{path} is of a type that no result holds")
    stored = table.id.get_storage_size()
    if stored > bytes_on_disk or math.prod(table.shape) * table.dtype.itemsize > stored * _MOST_SHRINKING:
        raise InputError(f"{path} claims shape {table.shape}, more than its {stored} bytes can hold")


def seal_of(file: h5py.File) -> str:
    """SHA-256 over all attributes but the seal itself, and the names, types and shapes of all tables.

    Raises
    ------
    InputError
        See `objects_of`.
    """
    seal = hashlib.sha256()
    for path, item in objects_of(file):
        layout = f"{item.dtype.descr} {item.shape}" if isinstance(item, h5py.Dataset) else "group"
        seal.update(_framed(path.encode(errors="surrogateescape"), layout.encode()))
        for name in sorted(item.attrs):
            if (path, name) != ("/", SEAL):
                seal.update(_framed(name.encode(errors="surrogateescape"), *_parts(item.attrs[name])))
    return seal.hexdigest()


def _parts(value: Any) -> tuple[bytes, ...]:
    """An attribute's type, shape and value as bytes."""
    if isinstance(value, h5py.Empty):
        return (b"empty",)
    if isinstance(value, str):
        return b"text", value.encode(errors="surrogateescape")
    array = np.asarray(value)
    if array.dtype.hasobject:
        return f"texts {array.shape}".encode(), *(str(t).encode(errors="surrogateescape") for t in array.flat)
    return f"{array.dtype.str} {array.shape}".encode(), array.tobytes()


def _framed(*parts: bytes) -> bytes:
    """Parts with their lengths, so that none can pass for the end of its neighbour."""
    return b"".join(len(part).to_bytes(8, "little") + part for part in parts)
