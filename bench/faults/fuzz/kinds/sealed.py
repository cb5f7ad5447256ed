"""Results, explanations and files of patches: HDF5 with a seal that fits, whatever was changed before it was sealed.

An input is a JSON document: which file it begins with, what is changed in it, and how it is read then. What a
change of bytes under a seal that fits makes of HDF5 itself is another matter (DESIGN.md, "Result file").
"""

from __future__ import annotations

import json
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from bench.faults.fuzz.bases import EXPLAINED, SLIDE, base
from bench.faults.fuzz.bases import PATCHES as PATCH_BASES
from bench.faults.fuzz.bases import RESULTS as RESULT_BASES
from bench.faults.fuzz.documents import mutate_json
from bench.faults.fuzz.target import Target
from pyramidai_mpi.api import open_explanation, open_result
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.classification.score_map import read_score_map
from pyramidai_mpi.export.formats import EXPLAINED as EXPLAINED_FORMATS
from pyramidai_mpi.export.formats import FORMATS, Format, Order, Variant, carry_out
from pyramidai_mpi.patches.pictures import PatchPictures
from pyramidai_mpi.simulate.stored import read_run
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.results.reader import read_digest, read_origin, summarise
from pyramidai_mpi.store.results.seal import rows_on_disk, seal_file
from pyramidai_mpi.store.results.summary import read_account

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from bench.faults.fuzz.target import Mutator

_RESULTS = (*RESULT_BASES, EXPLAINED)
_MOST_BYTES = 1 << 22
_KINDS = (
    "u1", "i1", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2",
    "<f4", "<f8", "S3", "S100", "c16", "?", [("a", "<i4"), ("b", "<f8")],
)  # fmt: skip
_NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 255, 65535, 2**31, 2**40, 2**62,
    0.5, 1e-300, 1e300, "nan", "inf", "-inf", "", "x", "x" * 5000, "a/../b", "<s>",
    "=1+1", [], [1, 2], [2**40, 2**40], [0.5, "nan"], ["a", "b"], [[1], [2]], "é", "\n", True,
)  # fmt: skip


def _read_result(data: bytes, folder: Path) -> None:
    order, path = _crafted(data, folder, _RESULTS)
    is_explained = order.get("base") == EXPLAINED
    formats = EXPLAINED_FORMATS if is_explained else FORMATS
    ways: list[Callable[[Path], object]] = [
        *([_look_at_explained] if is_explained else _READERS),
        *(partial(_export, one, variant) for one in formats for variant in (None, *one.variants)),
    ]
    _way_of(order, ways)(path)


def _way_of(order: dict[str, Any], ways: list[Callable[[Path], object]]) -> Callable[[Path], object]:
    """How the document wants its file to be read."""
    number = order.get("way")
    return ways[number % len(ways) if isinstance(number, int) else 0]


def _look_at_explained(path: Path) -> None:
    opened = open_explanation(path)
    _ = opened.digest


def _look(path: Path) -> None:
    opened = open_result(path)
    _ = opened.tree, opened.digest, opened.heatmap(), opened.tissue, opened.summary
    _ = [level.tiles for level in opened.levels]


_READERS = (read_digest, summarise, read_account, read_origin, read_run, read_score_map, _look)


def _export(one: Format, variant: Variant | None, path: Path) -> None:
    slide = path.with_name(SLIDE)
    slide.write_bytes(base(SLIDE))
    carry_out(Order(one, path.with_name("made"), variant), path, slide if one.needs_slide else None)


def _read_patches(data: bytes, folder: Path) -> None:
    order, path = _crafted(data, folder, PATCH_BASES)
    _way_of(order, [_all_patches, _as_slide])(path)


def _all_patches(path: Path) -> None:
    with PatchFile(path) as file:
        file.check_tables()
        file.execution()
        file.places(0, min(file.header.n_patches, 10))
        if file.header.images is not None:
            pictures = PatchPictures(file, file.header.images)
            for number in range(min(file.header.n_patches, 5)):
                pictures.decode(number)


def _as_slide(path: Path) -> None:
    slide = open_slide(path)
    try:
        width, height = slide.info.l0_size
        for corner in ((0, 0), (width // 2, height // 2)):
            try:
                slide.read(corner, 0, (64, 64))
            except UnreadableRegionError:
                continue
    finally:
        slide.close()


def _crafted(data: bytes, folder: Path, bases: tuple[str, ...]) -> tuple[dict[str, Any], Path]:
    """The document, and the file that it stands for.

    Raises
    ------
    InputError
        It stands for none.
    """
    order, changes = changes_of(data)
    name = order.get("base")
    name = name if name in bases else bases[0]
    path = folder / name
    path.write_bytes(base(name))
    for change in changes:
        try:
            with h5py.File(path, "r+") as file:
                change_file(file, *change)
        except Exception as error:  # HDF5 does not make such a file
            raise InputError(f"no such change: {error!s:.80}") from error
    if path.stat().st_size > _MOST_BYTES:
        raise InputError("too large a file")
    with h5py.File(path) as file:
        left_out = _left_out(file)
    seal_file(path, left_out)
    return order, path


def changes_of(data: bytes) -> tuple[dict[str, Any], list[tuple[str, str, str, Any]]]:
    """A document, and the changes that it asks for: what, where, of which name, to what.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        order = json.loads(data)
        return order, [(str(c[0]), str(c[1]), str(c[2]), c[3]) for c in order.get("changes", [])][:8]
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        raise InputError(f"no changes of a file: {error!s:.80}") from error


def _left_out(file: h5py.File) -> list[tuple[int, int]]:
    """What the seal does not cover: rows of features, encoded tiles and pictures."""
    found: list[tuple[int, int]] = []
    levels = file.get("levels", {})
    for level in levels.values() if isinstance(levels, h5py.Group) else ():
        if isinstance(level, h5py.Group) and isinstance(level.get("features"), h5py.Dataset):
            found += rows_on_disk(level["features"])
    for name in ("tiles/data", "images/data"):
        table = file.get(name)
        if isinstance(table, h5py.Dataset) and table.chunks is None and table.id.get_offset() is not None:
            start = table.id.get_offset()
            found.append((start, start + table.id.get_storage_size()))
    return found


def change_file(file: h5py.File, what: str, place: str, name: str, value: Any) -> None:
    """Change one thing in an open file: an attribute, a table's shape, type or rows, a group, a link."""
    if what == "attribute":
        file[place].attrs[name] = _value(value)
    elif what == "kind":
        file[place].attrs[name] = np.asarray(file[place].attrs[name]).astype(_kind(value))
    elif what == "no attribute":
        del file[place].attrs[name]
    elif what == "nothing":
        del file[place]
    elif what == "group":
        del file[place]
        file.create_group(place)
    elif what == "row":
        table = file[place]
        row = int(value[0]) % max(len(table), 1)
        cell = np.array(_value(value[1])).astype(table.dtype[name] if table.dtype.names else table.dtype)
        if table.dtype.names:
            whole = table[row]
            whole[name] = cell
            table[row] = whole
        else:
            table[row] = cell
    elif what == "bytes":
        table = file[place]
        blob = bytearray(table[...].tobytes())
        blob[int(value[0]) % len(blob)] = int(value[1]) % 256
        table[...] = np.frombuffer(bytes(blob), table.dtype).reshape(table.shape)
    elif what == "table":
        shape, kind = tuple(int(side) for side in value[0]), value[1]
        old = file[place]
        kept, dtype = dict(old.attrs), old.dtype if kind is None else np.dtype(_kind(kind))
        rows = old[...] if old.shape[:1] and shape[1:] == old.shape[1:] and dtype == old.dtype else None
        del file[place]
        packed = shape and all(shape) and bool(value[2])
        more = {"chunks": tuple(min(side, 64) for side in shape), "compression": "gzip"} if packed else {}
        made = file.create_dataset(place, shape, dtype, **more)
        if rows is not None and packed:
            made[: min(len(rows), shape[0])] = rows[: shape[0]]
        made.attrs.update(kept)
    elif what == "link":
        del file[place]
        file[place] = h5py.ExternalLink("/etc/passwd", "/") if value else h5py.SoftLink(str(name))
    elif what == "outside":
        shape, dtype = file[place].shape, file[place].dtype
        del file[place]
        file.create_dataset(place, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    else:
        raise ValueError("no change")


def _value(value: Any) -> Any:
    """A value of JSON as HDF5 takes it; words for numbers that JSON has not."""
    if isinstance(value, str):
        return float(value) if value in {"nan", "inf", "-inf"} else value
    if isinstance(value, list):
        return [_value(one) for one in value]
    return value


def _kind(value: Any) -> Any:
    return _KINDS[value % len(_KINDS)] if isinstance(value, int) else value


@cache
def _places(name: str) -> tuple[list[tuple[str, str]], list[tuple[str, tuple[int, ...], list[str]]]]:
    """Attributes of a base, and its tables with their shapes and fields."""
    attributes: list[tuple[str, str]] = []
    tables: list[tuple[str, tuple[int, ...], list[str]]] = []

    def see(place: str, item: Any) -> None:
        attributes.extend((place, one) for one in item.attrs)
        if isinstance(item, h5py.Dataset):
            tables.append((place, item.shape, list(item.dtype.names or [])))

    with h5py.File.in_memory(base(name)) as file:
        see("/", file)
        file.visititems(see)
    return attributes, tables


def mutate_of(bases: tuple[str, ...]) -> Mutator:
    """Further changes of files, at places that they have."""

    def mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
        try:
            order = json.loads(data)
            changes = list(order["changes"])
            attributes, tables = _places(order["base"])
        except (ValueError, TypeError, LookupError, RecursionError):
            return json.dumps({"base": bases[0], "way": 0, "changes": []}).encode()
        kind = chance.randrange(12)
        if kind == 0:
            return mutate_json(data, chance, blind)
        if kind == 1:
            order["way"] = chance.randrange(100)
        elif kind == 2 and changes:
            del changes[chance.randrange(len(changes))]
        elif kind == 3:
            order["base"] = chance.choice(bases)
        elif kind < 8:
            place, name = chance.choice(attributes)
            number = chance.choice(_NUMBERS) if chance.random() < 0.8 else chance.randrange(-5, 5000)
            made = ["attribute", place, name, number]
            if chance.random() < 0.2:
                made = ["kind", place, name, chance.randrange(len(_KINDS))]
            changes.append(chance.choice([made, made, made, ["no attribute", place, name, 0]]))
        else:
            place, shape, names = chance.choice(tables)
            name = chance.choice(names) if names else ""
            others = [[], [0], [2**20], [2**33, 2], [2**62], [1, 1], [side + 1 for side in shape], list(shape)]
            others += [[*shape[:-1], 2**20], [2, *shape], [2**20, *shape[1:]], [max(side - 1, 0) for side in shape]]
            kinds = [None, None, chance.randrange(len(_KINDS))]
            changes.append(chance.choice([
                ["row", place, name, [chance.randrange(50), chance.choice(_NUMBERS)]],
                ["row", place, name, [chance.randrange(50), chance.randrange(-2, 300)]],
                ["bytes", place, "", [chance.randrange(1 << 16), chance.randrange(256)]],
                ["table", place, "", [chance.choice(others), chance.choice(kinds), chance.random() < 0.5]],
                chance.choice([["nothing", place, "", 0], ["group", place, "", 0], ["outside", place, "", 0],
                               ["link", place, "x", 0], ["link", place, place, 0], ["link", place, "", 1]]),
            ]))  # fmt: skip
        order["changes"] = changes[-8:]
        return json.dumps(order).encode()

    return mutate


def _seeds_of(bases: tuple[str, ...]) -> Callable[[Path], dict[str, bytes]]:
    def seeds(_: Path) -> dict[str, bytes]:
        return {
            f"{name}-{way}": json.dumps({"base": name, "way": way, "changes": []}).encode()
            for name in bases
            for way in range(2 if "patches" in name else 30)
        }

    return seeds


RESULTS = Target(_read_result, _seeds_of(_RESULTS), mutate_of(_RESULTS), memory_mib=1024, seconds=20.0)
PATCHES = Target(_read_patches, _seeds_of(PATCH_BASES), mutate_of(PATCH_BASES), memory_mib=1024, seconds=20.0)
