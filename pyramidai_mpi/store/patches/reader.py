"""Reading files of patches: checked before HDF5 sees them, their tiles and pictures without it."""

from __future__ import annotations

import math
import os
import weakref
import zlib
from contextlib import suppress
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError, hdf5_errors, input_errors
from pyramidai_mpi.base.names import is_utf8
from pyramidai_mpi.base.patch_order import PIXELS, PatchOrder
from pyramidai_mpi.base.types import FAILED_DTYPE
from pyramidai_mpi.store.patches.record import (
    FILES,
    FORMAT,
    FORMAT_VERSION,
    IMAGE_CODINGS,
    IMAGE_INDEX_DTYPE,
    ORIGINS,
    PART_FORMAT,
    PLACES,
    TILE_INDEX_DTYPE,
    ImageStore,
    PatchHeader,
    PatchSettings,
    PatchSlide,
    TileStore,
    patch_digest,
)
from pyramidai_mpi.store.patches.tables import PlacesRead, read_patches, read_places
from pyramidai_mpi.store.patches.tables import rows_of as _rows
from pyramidai_mpi.store.results.contents import check_objects
from pyramidai_mpi.store.results.reader import read_part
from pyramidai_mpi.store.results.seal import check_seal
from pyramidai_mpi.store.results.tables import damage_is_named, read_execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.result import Execution

_LONGEST_SIDE = 1 << 31
_LARGEST_TILE = 1 << 16
_MOST_CODED_BYTES = 1 << 30
_MOST_LABELS = 1 << 15


class PatchFile:
    """A file of patches whose seal and description have been checked.

    It is opened once, and its encoded tiles and pictures are read at their places, so that threads and forked processes
    may use it at once. Tables are read, and held against each other, when they are first asked for.

    Parameters
    ----------
    path
        The file.
    may_be_part
        Whether a part of a file will do.

    Attributes
    ----------
    path
        Likewise.
    header
        What it says beside its tables.

    Raises
    ------
    InputError
        When it is missing, was changed after it was written, or is no file of patches of this version.
    """

    def __init__(self, path: Path, *, may_be_part: bool = False) -> None:
        self.path = path
        if path.is_dir():
            raise InputError(f"{path}: is a folder; name a file of patches in it")
        if not path.is_file():
            raise InputError(f"{path}: no such file of patches; check the path")
        with input_errors(path):
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._close = weakref.finalize(self, os.close, self._descriptor)
        try:
            with hdf5_errors(path):
                self._stamp = _stamp(os.fstat(self._descriptor))
                self._places = PlacesRead()
                check_seal(path)
                with self._opened() as file, damage_is_named(file):
                    self.header = _read_header(file, may_be_part=may_be_part)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, as happens too when it is not used any more; a second time does nothing."""
        self._close()
        self._descriptor = -1

    @cached_property
    def patches(self) -> npt.NDArray[np.void]:
        """`PATCH_DTYPE` records of all patches, row-major.

        Raises
        ------
        InputError
            When they do not fit each other or the slide.
        """
        with self._opened() as file, damage_is_named(file):
            table = read_patches(file["patches"], self.header)
        table.flags.writeable = False
        return table

    def places(self, first: int, last: int) -> npt.NDArray[np.void]:
        """Where patches lie, from one up to another (excluded): records with the fields of `PLACE_DTYPE`.

        A block of rows about them is read, not the table: of a million patches this takes milliseconds. What was read
        is kept, within bounds.

        Raises
        ------
        InputError
            When the rows do not fit each other or the slide.
        """
        if "patches" in self.__dict__:  # all of them were read and held against each other
            return self.patches[first:last]
        return self._places.between(first, last, self._read_places)

    def _read_places(self, block: int) -> npt.NDArray[np.void]:
        with self._opened() as file, damage_is_named(file):
            return read_places(file["patches"], self.header, block)

    @cached_property
    def failed(self) -> npt.NDArray[np.void]:
        """Cells whose pixels could not be had: level, col, row, reason."""
        with self._opened() as file, damage_is_named(file):
            return _rows(file["failed"], FAILED_DTYPE, (self.header.n_failed,))

    @cached_property
    def tile_index(self) -> npt.NDArray[np.void]:
        """`TILE_INDEX_DTYPE` records of the encoded tiles that are kept.

        Raises
        ------
        InputError
            When they do not fit the level or their bytes.
        """
        header = self.header
        if header.tiles is None:
            return np.zeros(0, TILE_INDEX_DTYPE)
        with self._opened() as file, damage_is_named(file):
            index = _rows(file["tiles/index"], TILE_INDEX_DTYPE, (header.n_tiles,))
        n_tiles = math.prod(-(-header.tiles.level_size[axis] // header.tiles.tile_size[axis]) for axis in (0, 1))
        number, length = index["number"], index["length"].astype(np.int64)
        if not (
            (np.diff(number) > 0).all()
            and ((number >= 0) & (number < n_tiles)).all()
            and ((length > 0) & (length < _MOST_CODED_BYTES)).all()
            and length.sum() == header.tile_bytes
        ):
            raise InputError(f"{self.path}: its table of stored tiles does not fit the slide, or their bytes")
        return index

    @cached_property
    def tile_numbers(self) -> npt.NDArray[np.int64]:
        """Their numbers, ascending, one beside the other: searching a column of records would copy it each time."""
        return np.ascontiguousarray(self.tile_index["number"])

    @cached_property
    def _tile_places(self) -> npt.NDArray[np.int64]:
        ends = np.cumsum(self.tile_index["length"].astype(np.int64))
        return np.asarray(self.header.tile_place + ends - self.tile_index["length"])

    def encoded(self, row: int) -> bytes:
        """Bytes of the encoded tile of a row of `tile_index`; from any thread or forked process.

        Raises
        ------
        InputError
            When they are not what was written.
        """
        record = self.tile_index[row]
        return self._checked(record, int(self._tile_places[row]), f"stored tile {record['number']}")

    @cached_property
    def image_index(self) -> npt.NDArray[np.void]:
        """`IMAGE_INDEX_DTYPE` records of the pictures, one a patch; none where there are none.

        Raises
        ------
        InputError
            When they do not fit the patches or their bytes.
        """
        header = self.header
        if header.images is None:
            return np.zeros(0, IMAGE_INDEX_DTYPE)
        with self._opened() as file, damage_is_named(file):
            index = _rows(file["images/index"], IMAGE_INDEX_DTYPE, (header.n_patches,))
        length = index["length"].astype(np.int64)
        is_raw = header.images.coding == "raw"
        if not (
            (length == 3 * header.settings.size**2 if is_raw else (length > 0) & (length < _MOST_CODED_BYTES)).all()
            and length.sum() == header.image_bytes
        ):
            raise InputError(f"{self.path}: its table of pictures does not fit the patches, or their bytes")
        return index

    @cached_property
    def _image_places(self) -> npt.NDArray[np.int64]:
        ends = np.cumsum(self.image_index["length"].astype(np.int64))
        return np.asarray(self.header.image_place + ends - self.image_index["length"])

    def picture(self, number: int) -> bytes:
        """Bytes of the picture of a patch, encoded as the header says; from any thread or forked process.

        Raises
        ------
        InputError
            When they are not what was written.
        """
        return self._checked(
            self.image_index[number], int(self._image_places[number]), f"the picture of patch {number}"
        )

    def _checked(self, record: np.void, place: int, what: str) -> bytes:
        """Bytes at a place of the file, of the length and the checksum that a record says."""
        if self._descriptor < 0:
            raise UsageError(f"{self.path}: was closed; open it again")
        with input_errors(self.path):
            data = os.pread(self._descriptor, int(record["length"]), place)
        if zlib.crc32(data) != int(record["crc32"]):
            raise InputError(f"{self.path}: {what} was damaged after it was written; extract the patches again")
        return data

    def expect(self, rows: Iterable[int]) -> None:
        """Have the system fetch the bytes of encoded tiles, without waiting for them; from any thread."""
        if not hasattr(os, "posix_fadvise"):  # macOS has none
            return
        for row in rows:
            with suppress(OSError):  # advice only: what is wrong with the file shows when it is read
                place, length = int(self._tile_places[row]), int(self.tile_index["length"][row])
                os.posix_fadvise(self._descriptor, place, length, os.POSIX_FADV_WILLNEED)

    def execution(self) -> Execution:
        """How the file came about."""
        with self._opened() as file, damage_is_named(file):
            return read_execution(file)

    def check_tables(self) -> None:
        """Read all tables, and see that they give the digest that the file claims.

        Raises
        ------
        InputError
            When they do not.
        """
        header = self.header
        digest = patch_digest(
            header.slide,
            header.settings,
            header.tiles,
            self.patches,
            self.failed,
            self.tile_index,
            header.images,
            self.image_index,
        )
        if digest != header.digest:
            raise InputError(f"{self.path}: its content gives another digest than it claims")

    def _opened(self) -> h5py.File:
        with hdf5_errors(self.path):
            if _stamp(self.path.stat()) != self._stamp:
                raise InputError(f"{self.path}: was changed since it was opened; open it again")
            return h5py.File(self.path, "r")


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    """What tells a file from another one, and from itself before a change."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_header(file: h5py.File, *, may_be_part: bool) -> PatchHeader:
    """Read and check the description of an open file; its tables are not read."""
    is_part = file.attrs.get("format") == PART_FORMAT
    if is_part and not may_be_part:
        raise InputError(f"{file.filename}: is a part of a file of patches; join all of them first: pyramidai merge")
    if not is_part and file.attrs.get("format") != FORMAT:
        raise InputError(f"{file.filename}: no patches of this program: its format is {file.attrs.get('format')!r:.80}")
    if file.attrs.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file.filename}: has format version {file.attrs.get('format_version')!r:.80}, expected {FORMAT_VERSION}"
        )
    if not file.attrs.get("complete"):
        raise InputError(f"{file.filename}: is not complete; extract the patches again")
    check_objects(file)
    slide, settings = file["slide"].attrs, file["settings"].attrs
    tile_bytes, tile_place = _place_of(file, "tiles")
    image_bytes, image_place = _place_of(file, "images")
    header = PatchHeader(
        slide=PatchSlide(
            name=_text(slide["name"]),
            quickhash=_text(slide["quickhash"]),
            vendor=_text(slide["vendor"]),
            l0_size=(int(slide["dimensions"][0]), int(slide["dimensions"][1])),
            mpp=float(slide["mpp"]),
            origin={name: _text(slide[name]) for name in ORIGINS if name in slide},
        ),
        settings=PatchSettings(
            **{field.name: _AS[str(field.type)](settings[field.name]) for field in fields(PatchSettings)}
        ),
        tiles=_read_store(file["tiles"]) if "tiles" in file else None,
        n_patches=len(file["patches/index"]),
        n_failed=len(file["failed"]),
        n_cells=int(file.attrs["n_cells"]),
        n_tiles=len(file["tiles/index"]) if "tiles" in file else 0,
        tile_bytes=tile_bytes,
        tile_place=tile_place,
        digest=_text(file.attrs["digest"]),
        software_version=_text(file.attrs["software_version"]),
        created=_text(file.attrs["created"]),
        part=read_part(file),
        images=_read_image_store(file["images"]) if "images" in file else None,
        image_bytes=image_bytes,
        image_place=image_place,
        n_refused=int(file.attrs["n_patches_refused"]),
    )
    _check(header, int(file.attrs["n_patches_failed"]))
    return header


def _place_of(file: h5py.File, name: str) -> tuple[int, int]:
    """Number and place of the bytes of a group that holds encoded tiles or pictures; zeros where there is none."""
    if name not in file:
        return 0, 0
    data = file[f"{name}/data"]
    if data.ndim != 1 or data.dtype != np.uint8 or data.chunks is not None:
        raise ValueError(f"bytes of {name} of {data.dtype} {data.shape}")
    n_bytes, place = len(data), data.id.get_offset() or 0
    if place + n_bytes > file.id.get_filesize():
        raise ValueError(f"bytes of {name} beyond the end of the file")
    return n_bytes, place


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text belongs")
    if not is_utf8(value):
        raise ValueError("a text that is not UTF-8")
    return value


_AS: dict[str, Callable[[Any], Any]] = {"int": int, "float": float, "str": _text}
"""How an attribute of each type of `PatchSettings` is read."""


def _bytes(value: object) -> bytes:
    if not (isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 1):
        raise TypeError(f"{type(value).__name__} where bytes belong")
    return value.tobytes()


def _read_store(group: h5py.Group) -> TileStore:
    attributes = group.attrs
    return TileStore(
        level_size=(int(attributes["level_size"][0]), int(attributes["level_size"][1])),
        tile_size=(int(attributes["tile_size"][0]), int(attributes["tile_size"][1])),
        coding=_text(attributes["coding"]),
        tables=_bytes(attributes["tables"]),
        is_ycbcr=bool(attributes["is_ycbcr"]),
        differences=bool(attributes["differences"]),
    )


def _read_image_store(group: h5py.Group) -> ImageStore:
    return ImageStore(_text(group.attrs["coding"]), int(group.attrs["quality"]))


def _check(header: PatchHeader, n_failed: int) -> None:
    """See that what a file claims can be: a seal does not say who has sealed it."""
    slide, settings, store, images = header.slide, header.settings, header.tiles, header.images
    pixels, quality = settings.pixels, settings.jpeg_quality
    try:
        ordered = "none" if pixels == FILES else pixels  # which are kept as they were found, and never ordered
        PatchOrder(settings.size, settings.stride, level=0, pixels=ordered, group=settings.group, jpeg_quality=quality)
    except UsageError as error:
        raise ValueError(f"patches that cannot be: {error}") from error
    fits = (
        settings.places in PLACES
        and len(settings.label_names) < _MOST_LABELS
        and all(map(is_utf8, settings.label_names))
        and 1e-6 < settings.downsample < 1e6
        and 1e-6 < settings.stored_downsample < 1e6
        and 1e-6 < settings.ratio < 1e6
        and abs(settings.stored_downsample * settings.ratio / settings.downsample - 1) < 1e-6
        and (store is not None) == (pixels == PIXELS[0])
        and images == (ImageStore(pixels, quality) if pixels in IMAGE_CODINGS else None)
        and header.n_refused >= 0
        and header.n_patches + header.n_failed + header.n_refused <= header.n_cells
        and n_failed == header.n_failed
    )
    if settings.places != PLACES[2]:
        fits = fits and all(0 < side <= _LONGEST_SIDE for side in slide.l0_size) and 1e-6 < slide.mpp < 1e6
    if fits and settings.places == PLACES[0]:
        fits = header.n_cells <= math.prod(settings.grid(slide.l0_size).shape(0))
    if store is not None:
        fits = (
            fits
            and all(0 < side <= _LONGEST_SIDE for side in store.level_size)
            and all(0 < side <= _LARGEST_TILE for side in store.tile_size)
            and float(settings.stored_downsample).is_integer()
            and all(
                abs(side * settings.stored_downsample - whole) <= settings.stored_downsample
                for side, whole in zip(store.level_size, slide.l0_size, strict=True)
            )
        )
    if not fits:
        raise ValueError("it claims sizes or numbers that no file of patches has")
