"""What a result file may hold at all, looked at before any of it is read into memory."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import h5py

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_OBJECTS = 1000
_DEEPEST = 8
# gzip shrinks by 1032 at most: a table that claims more rows than its bytes can hold was made to exhaust the memory
_MOST_SHRINKING = 1100
_MOST_ROW_BYTES = 1 << 20
_MOST_CHUNK_BYTES = 1 << 30
# further filters would be libraries that HDF5 loads from wherever HDF5_PLUGIN_PATH points
_KNOWN_FILTERS = frozenset({h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32})


def check_objects(file: h5py.File) -> None:
    """See that a file holds nothing but groups and tables of its own, of plain types, as large as their bytes allow.

    Raises
    ------
    InputError
        When it reaches beyond itself (links to elsewhere, tables kept elsewhere), runs in circles, or holds what no
        result holds: other filters or types, or tables that claim more than their bytes could hold.
    """
    for _ in _objects_of(file):
        pass


def _objects_of(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset]]:
    """Every group and table with its path, each checked, the root first."""
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
    n_bytes = math.prod(table.shape) * table.dtype.itemsize
    # HDF5 unpacks whole chunks, of which a few rows may be asked for
    chunk = math.prod(table.chunks or ()) * table.dtype.itemsize
    if table.dtype.itemsize > _MOST_ROW_BYTES or chunk > min(_MOST_CHUNK_BYTES, n_bytes + _MOST_ROW_BYTES):
        raise InputError(f"{path} has rows or pieces of a size that no result has")
    stored = table.id.get_storage_size()
    if stored > bytes_on_disk or n_bytes > stored * _MOST_SHRINKING:
        raise InputError(f"{path} claims shape {table.shape}, more than its {stored} bytes can hold")
