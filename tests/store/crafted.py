"""Results that were changed and sealed again: nothing in them shows that they are not a run's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.store.results.seal import rows_on_disk, seal_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

VALUES = (
    0, -1, 1, 2, 3, 255, 2**31, 2**62, np.uint64(2**64 - 1), 0.5, -0.5, 1e-300, 1e300, np.nan, np.inf, -np.inf, "",
    "=cmd|' /C calc'!A0", "x" * 5000, "a/../b", "<script>", True, [], [1, 2, 3], [np.nan, 0.0], ["a"], [[1], [2]],
    h5py.Empty("f4"), np.void(b"abc"), [2**40, 2**40], [2**31, 1], [1, 1], ["tumor"] * 3000,
)  # fmt: skip
"""To be put in the place of any attribute."""

SHAPES = ((), (0,), (0, 2), (1,), (1, 2), (3, 1), (7, 7, 7), (2**20,), (2**20, 2), (2**33, 2), (2**17, 2**17), (2**62,))
TYPES = ("u1", "u2", "i4", "u4", "i8", "f2", "f4", "f8", "S3", "S100000", [("rank", "i4"), ("busy_s", "f8")], "c16")


def attributes_of(path: Path) -> list[tuple[str, str]]:
    """Place and name of each attribute of a file."""
    found: list[tuple[str, str]] = []
    with h5py.File(path) as file:
        found.extend(("/", name) for name in file.attrs)
        file.visititems(lambda place, item: found.extend((place, name) for name in item.attrs))
    return found


def tables_of(path: Path) -> list[str]:
    """The place of each table of a file."""
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda place, item: found.append(place) if isinstance(item, h5py.Dataset) else None)
    return found


def changes(path: Path) -> Iterator[tuple[str, Callable[[h5py.File], None]]]:
    """A name and a change of the file for each thing in it and each value or shape."""

    def attribute(place: str, name: str, value: object) -> Callable[[h5py.File], None]:
        return lambda file: file[place].attrs.__setitem__(name, value)

    def table(place: str, shape: tuple[int, ...], dtype: object, filled: bool) -> Callable[[h5py.File], None]:
        def change(file: h5py.File) -> None:
            kept = dict(file[place].attrs)
            del file[place]
            packed = (
                {"chunks": tuple(min(side, 64) for side in shape), "compression": "gzip"}
                if shape and all(shape)
                else {}
            )
            made = file.create_dataset(place, shape, np.dtype(dtype), **packed)
            if filled and shape and all(shape) and made.dtype.kind in "uif":
                made[tuple(slice(0, 64) for _ in shape)] = 1
            made.attrs.update(kept)

        return change

    for place, name in attributes_of(path):
        for value in VALUES:
            yield f"{place} {name} = {value!r:.30}", attribute(place, name, value)
        yield f"{place} {name} removed", lambda file, place=place, name=name: file[place].attrs.__delitem__(name)
    for place in tables_of(path):
        with h5py.File(path) as file:
            own_dtype, own_shape = file[place].dtype, file[place].shape
        for shape in SHAPES:
            for filled in (False, True):
                yield f"{place} of shape {shape}, {filled=}", table(place, shape, own_dtype, filled)
        for dtype in TYPES:
            yield f"{place} of {dtype}", table(place, own_shape, dtype, True)
        yield f"{place} of other numbers", table(place, own_shape, own_dtype, True)
        yield f"{place} removed", lambda file, place=place: file.__delitem__(place)
        yield f"{place} a group", lambda file, place=place: (file.__delitem__(place), file.create_group(place))


def crafted(whole: Path, target: Path, change: Callable[[h5py.File], None]) -> Path:
    """A changed copy of a result, sealed."""
    shutil.copyfile(whole, target)
    with h5py.File(target, "r+") as file:
        change(file)
    seal(target)
    return target


def seal(path: Path) -> None:
    """Seal a file as a run does; a seal that is there already is left within, where HDF5 ignores it."""
    with h5py.File(path) as file:
        levels = [level for level in file.get("levels", {}).values() if isinstance(level, h5py.Group)]
        tables = [level["features"] for level in levels if isinstance(level.get("features"), h5py.Dataset)]
        left_out = [place for table in tables for place in rows_on_disk(table)]
    seal_file(path, left_out)
