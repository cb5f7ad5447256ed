"""Writing a file of patches, by the slide's owner."""

from __future__ import annotations

import zlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import InputError, InternalError
from pyramidai_mpi.store.files.placing import discard, flush_file, place, storage_errors, temporary_name
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import (
    FORMAT,
    FORMAT_VERSION,
    IMAGE_INDEX_DTYPE,
    ORIGINS,
    PART_FORMAT,
    SHARES,
    TILE_INDEX_DTYPE,
    patch_digest,
)
from pyramidai_mpi.store.results.failsafe_file import written_hdf5
from pyramidai_mpi.store.results.seal import seal_file
from pyramidai_mpi.store.results.writer import create_table, storable, write_execution, write_part

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import h5py
    import numpy.typing as npt

    from pyramidai_mpi.store.patches.record import ImageStore, PatchSettings, PatchSlide, TileStore
    from pyramidai_mpi.store.results.result import Execution, PartRecord

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True)
class KeptTiles:
    """Encoded tiles on their way into a file.

    Attributes
    ----------
    store
        How they are encoded.
    numbers, lengths
        int64 (n,): their numbers, ascending, and bytes of each.
    read
        Gives the bytes of a tile.
    """

    store: TileStore
    numbers: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class KeptImages:
    """Pictures of all patches on their way into a file; only a few of them are in memory at a time.

    Attributes
    ----------
    store
        How they are encoded.
    lengths
        int64 (N,): bytes of each, in the patches' order.
    read
        Gives the bytes of the picture of a patch, by its number; called in order.
    """

    store: ImageStore
    lengths: npt.NDArray[np.int64]
    read: Callable[[int], bytes]


@dataclass(frozen=True)
class PatchContent:
    """Everything that a file of patches holds.

    Attributes
    ----------
    slide, settings
        Whose patches, and how they were taken.
    patches, failed
        `PATCH_DTYPE` and `FAILED_DTYPE` records, row-major.
    n_cells
        Cells with enough tissue.
    kept
        Encoded tiles; None keeps none.
    images
        Pictures; None keeps none.
    part
        Which part of a file it is; None for a whole one.
    n_refused
        Cells that were looked at and are no patches, as they are too white or black.
    """

    slide: PatchSlide
    settings: PatchSettings
    patches: npt.NDArray[np.void]
    failed: npt.NDArray[np.void]
    n_cells: int
    kept: KeptTiles | None
    images: KeptImages | None = None
    part: PartRecord | None = None
    n_refused: int = 0


def place_patches(
    path: Path,
    content: PatchContent,
    execution: Execution,
    *,
    overwrite: bool,
    check: Callable[[], None] = lambda: None,
) -> None:
    """Write a file of patches under a temporary name, and give it its own.

    Parameters
    ----------
    overwrite, check
        As of `files.placing.place`.

    Raises
    ------
    OutputExistsError, StorageError
        Nothing is left under either name.
    InputError
        When what it is made of cannot be read.
    """
    temporary = temporary_name(path)
    try:
        with storage_errors(temporary):
            write_patches(temporary, content, execution, datetime.now(UTC), __version__)
            place(temporary, path, overwrite=overwrite, check=check)
    finally:
        discard(temporary)


def write_patches(
    path: Path, content: PatchContent, execution: Execution, created: datetime, software_version: str
) -> str:
    """Write the whole file, seal it, flush it, and read it back; its digest.

    Parameters
    ----------
    path
        A temporary name.

    Raises
    ------
    InternalError
        When it does not hold what was to be written.
    InputError
        When the slide's tiles cannot be read.
    OSError
        When the disk fails.
    """
    slide, kept, images = content.slide, content.kept, content.images
    with written_hdf5(path, "w") as file:
        file.attrs.update(
            format=FORMAT if content.part is None else PART_FORMAT,
            format_version=FORMAT_VERSION,
            software_version=software_version,
            created=created.isoformat(timespec="seconds"),
            complete=False,
            n_patches_failed=len(content.failed),
            n_patches_refused=content.n_refused,
            n_cells=content.n_cells,
        )
        if content.part is not None:
            write_part(file, content.part)
        file.create_group("slide").attrs.update(
            name=storable(slide.name),
            quickhash=slide.quickhash,
            vendor=slide.vendor,
            dimensions=np.array(slide.l0_size, np.int64),
            mpp=slide.mpp,
            **{name: storable(slide.origin[name]) for name in ORIGINS if name in slide.origin},
        )
        settings = asdict(content.settings)
        file.create_group("settings").attrs.update(
            {name: storable(value) if isinstance(value, str) else value for name, value in settings.items()}
        )
        _write_patch_tables(file, content.patches)
        create_table(file, "failed", content.failed)
        index, place = (np.zeros(0, TILE_INDEX_DTYPE), 0) if kept is None else _write_tiles(file, kept)
        image_index, image_place = (
            (np.zeros(0, IMAGE_INDEX_DTYPE), 0) if images is None else _write_images(file, images)
        )
        digest = patch_digest(
            slide,
            content.settings,
            None if kept is None else kept.store,
            content.patches,
            content.failed,
            index,
            None if images is None else images.store,
            image_index,
        )
        write_execution(file, execution)
        file.attrs["digest"] = digest
        file.attrs["complete"] = True
    ranges = [
        (first, first + int(rows["length"].sum(dtype=np.int64)))
        for first, rows in ((place, index), (image_place, image_index))
    ]
    seal_file(path, [(first, last) for first, last in ranges if first < last])
    flush_file(path)  # what cannot be kept is to fail here, before it is read back and named
    try:
        with PatchFile(path, may_be_part=True) as written:
            written.check_tables()
            for number in range(len(index)):
                written.encoded(number)
            for number in range(len(image_index)):
                written.picture(number)
    except InputError as error:
        raise InternalError(f"{path}: does not hold what was to be written: {error}") from error
    return digest


def _write_patch_tables(file: h5py.File, patches: npt.NDArray[np.void]) -> None:
    pairs = (("index", "col", "row"), ("coords", "l0_x", "l0_y"), ("cell_coords", "cell_l0_x", "cell_l0_y"))
    for name, *columns in pairs:
        create_table(file, f"patches/{name}", np.stack([patches[column] for column in columns], axis=1))
    for name in (*SHARES, "label"):
        create_table(file, f"patches/{name}", np.ascontiguousarray(patches[name]))


def _write_tiles(file: h5py.File, kept: KeptTiles) -> tuple[npt.NDArray[np.void], int]:
    """Copy the encoded tiles in blocks; their index, and where the first byte lies in the file."""
    store = kept.store
    group = file.create_group("tiles")
    group.attrs.update(
        level_size=np.array(store.level_size, np.int64),
        tile_size=np.array(store.tile_size, np.int64),
        coding=store.coding,
        tables=np.frombuffer(store.tables, np.uint8),
        is_ycbcr=store.is_ycbcr,
        differences=store.differences,
    )
    index = np.zeros(len(kept.numbers), TILE_INDEX_DTYPE)
    index["number"], index["length"] = kept.numbers, kept.lengths
    place = _write_bytes(group, index, lambda row: kept.read(int(kept.numbers[row])))
    create_table(group, "index", index)
    return index, place


def _write_images(file: h5py.File, images: KeptImages) -> tuple[npt.NDArray[np.void], int]:
    """The like for pictures of patches."""
    group = file.create_group("images")
    group.attrs.update(coding=images.store.coding, quality=images.store.quality)
    index = np.zeros(len(images.lengths), IMAGE_INDEX_DTYPE)
    index["length"] = images.lengths
    place = _write_bytes(group, index, images.read)
    create_table(group, "index", index)
    return index, place


def _write_bytes(group: h5py.Group, index: npt.NDArray[np.void], read: Callable[[int], bytes]) -> int:
    """Write the bytes of all rows of an index, note their checksums there, and say where the first lies in the file."""
    # contiguous, so that it can be read at any place by any thread without HDF5
    data = group.create_dataset("data", shape=(int(index["length"].sum(dtype=np.int64)),), dtype=np.uint8)
    block, first = bytearray(), 0
    for row, length in enumerate(index["length"].tolist()):
        encoded = read(row)
        if len(encoded) != length:
            raise InternalError(f"{group.name}: {len(encoded)} bytes where {length} were to come, in row {row}")
        index["crc32"][row] = zlib.crc32(encoded)
        block += encoded
        if len(block) >= _BLOCK_BYTES or row + 1 == len(index):
            data[first : first + len(block)] = np.frombuffer(block, np.uint8)
            first += len(block)
            block = bytearray()
    return (data.id.get_offset() or 0) if len(data) else 0
