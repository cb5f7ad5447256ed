"""Writing the result file, by rank 0 alone or by all ranks together: the same content either way.

Rank 0 alone makes the file: attributes, small tables and the level tables at their full size. The rows of the level
tables are then filled by rank 0, or by all ranks in turn, which open the file through MPI-IO and write collectively;
that needs an h5py that was built with MPI.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, InternalError
from pyramidai_mpi.store.files.placing import flush_file
from pyramidai_mpi.store.results.failsafe_file import written_hdf5
from pyramidai_mpi.store.results.feature_digest import ATTRIBUTE as FEATURES_DIGEST
from pyramidai_mpi.store.results.feature_digest import digest_of_features
from pyramidai_mpi.store.results.prediction import TILE_TABLES, write_prediction
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.store.results.result import CELL_ATTRIBUTES, FORMAT, FORMAT_VERSION, PART_FORMAT
from pyramidai_mpi.store.results.seal import FILE_VERSIONS, rows_on_disk, seal_file
from pyramidai_mpi.store.results.tables import read_header

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.results.result import Execution, ModelRecord, PartRecord, Result, SlideRecord

_CHUNK_ROWS = 16384
ROWS_A_ROUND = 16 * _CHUNK_ROWS
"""Rows of a table that a rank is sent and writes at a time, of several that write: whole chunks, so no chunk has two
writers. At 16 bytes a row they are 4 MB, and HDF5 holds them once more, compressed."""
_COMPRESSION = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
_FEATURE_CHUNK_BYTES = 1 << 20
_MASK_CHUNK_BYTES = 1 << 22
"""As who reads a band of rows unpacks the chunks that it meets."""


@dataclass(frozen=True)
class Slab:
    """Consecutive rows of every level's tables.

    Attributes
    ----------
    first_row
        For each level the slab's first row.
    tables
        For each level the rows of each of its tables, by name.
    """

    first_row: tuple[int, ...]
    tables: tuple[dict[str, npt.NDArray[Any]], ...]


def can_write_in_parallel() -> bool:
    """Whether this h5py was built with MPI."""
    return bool(h5py.get_config().mpi)


def slab_of(result: Result, part: int, parts: int) -> Slab:
    """Rows that one of several writers writes: an even share of each level, in order."""
    first_row: list[int] = []
    tables: list[dict[str, npt.NDArray[Any]]] = []
    for n, coords in enumerate(result.l0_coords):
        level = result.tree.levels[n]
        rows = slice(len(level) * part // parts, len(level) * (part + 1) // parts)
        first_row.append(rows.start)
        tables.append(
            {
                "coords": coords[rows],
                "index": level.index[rows],
                "probability": level.probability[rows],
                "decision": level.decision[rows],
                "parent": level.parent[rows],
                **(
                    {}
                    if level.score is None or level.state is None
                    else {"score": level.score[rows], "state": level.state[rows]}
                ),
            }
        )
        if n == 0 and result.prediction is not None:
            tables[0] |= {name: getattr(result.prediction, name)[rows] for name in TILE_TABLES}
    return Slab(tuple(first_row), tuple(tables))


def create_file(path: Path, result: Result, created: datetime, software_version: str) -> None:
    """Make the file with everything but the rows of the level tables. One rank calls it.

    Parameters
    ----------
    path
        A temporary name; a file of that name is replaced.
    result
        What to write.
    created
        Time of creation with its time zone.
    software_version
        Version of this package.
    """
    with written_hdf5(path, "w") as file:
        file.attrs.update(
            format=FORMAT if result.part is None else PART_FORMAT,
            format_version=FORMAT_VERSION,
            software_version=software_version,
            created=created.isoformat(timespec="seconds"),
            complete=False,
            n_tiles_failed=result.tree.n_failed,
        )
        if result.part is not None:
            write_part(file, result.part)
        write_slide_and_model(file, result.slide, result.model)
        if result.encoder is not None:
            _write_model(file.create_group("encoder"), result.encoder)
        pixels = np.asarray(result.tissue.mask, bool).view(np.uint8)
        mask = create_table(file, "tissue/mask", pixels, max(1, _MASK_CHUNK_BYTES // max(1, pixels.shape[1])))
        mask.attrs.update(downsample=result.tissue.downsample, method=result.tissue.method)
        _create_levels(file, result)
        create_table(file, "failed", result.failed)
        if result.prediction is not None:
            write_prediction(file, result.prediction, result.digest())


def write_slide_and_model(file: h5py.File, slide: SlideRecord, model: ModelRecord) -> None:
    """Add what was looked at with what."""
    group = file.create_group("slide")
    group.attrs.update(
        name=storable(slide.name),
        quickhash=slide.quickhash,
        vendor=slide.vendor,
        dimensions=np.array(slide.l0_size, np.int64),
        mpp=slide.mpp,
        bounds_x=slide.l0_bounds[0],
        bounds_y=slide.l0_bounds[1],
    )
    if slide.sha256 is not None:
        group.attrs["sha256"] = slide.sha256
    if slide.openslide_quickhash1 is not None:
        group.attrs["openslide_quickhash1"] = storable(slide.openslide_quickhash1)
    _write_model(file.create_group("model"), model)


def _write_model(group: h5py.Group, model: ModelRecord) -> None:
    group.attrs.update(
        name=model.name,
        classes=np.array(model.classes, h5py.string_dtype()),  # of an encoder there are none
        positive_class=model.positive_class,
        tile_size=model.tile_size,
        scale_factor=model.scale_factor,
        base_mpp=model.base_mpp,
        stain=model.stain,
        level_sha256=list(model.level_sha256),
        yaml=model.yaml_text,
    )
    if model.intended_use is not None:
        group.attrs["intended_use"] = str(model.intended_use)  # h5py takes no enumeration


def create_table(group: h5py.Group, name: str, rows: npt.NDArray[Any], most_rows: int = _CHUNK_ROWS) -> h5py.Dataset:
    """A table with its rows, checksummed in pieces of at most so many; a chunked one needs at least one."""
    if rows.size == 0:
        return group.create_dataset(name, data=rows)
    chunks = (min(len(rows), most_rows), *rows.shape[1:])
    return group.create_dataset(name, data=rows, chunks=chunks, **_COMPRESSION)


def _create_levels(file: h5py.File, result: Result) -> None:
    whole = slab_of(result, 0, 1)
    for n, level in enumerate(result.levels):
        group = file.create_group(f"levels/{n}")
        group.attrs.update(
            patch_size=level.patch_size,
            patch_size_level0=level.patch_size_level0,
            patch_level=level.patch_level,
            downsample=level.downsample,
            level_dim=np.array(level.level_dim, np.int64),
            spacing_um_px=level.spacing_um_px,
            threshold=level.threshold,
            network=n if level.network is None else level.network,
            cell_px=result.model.tile_size if level.cell is None else level.cell,
            window_px=result.model.tile_size,
        )
        if level.cell is not None:
            stored = {attribute: getattr(level, name) for name, attribute in CELL_ATTRIBUTES.items()}
            group.attrs.update(stored)
        if level.n_features:
            # uncompressed, as features hardly shrink, but with checksums
            shape, dtype = (len(result.tree.levels[n]), level.n_features), np.dtype(level.feature_type)
            rows_a_chunk = min(max(1, _FEATURE_CHUNK_BYTES // (dtype.itemsize * level.n_features)), shape[0])
            checked = {"chunks": (rows_a_chunk, level.n_features), "fletcher32": True} if shape[0] else {}
            group.create_dataset("features", shape=shape, dtype=dtype, **checked)
        for name, rows in whole.tables[n].items():
            if rows.size == 0:  # a chunked table needs at least one row and column
                group.create_dataset(name, shape=rows.shape, dtype=rows.dtype)
            else:
                chunks = (min(len(rows), _CHUNK_ROWS), *rows.shape[1:])
                group.create_dataset(name, shape=rows.shape, dtype=rows.dtype, chunks=chunks, **_COMPRESSION)


class TableWriter:
    """Fills the level tables of a file that `create_file` has made, block by block.

    Parameters
    ----------
    path
        The file.
    comm
        All its ranks write together, each call of `write` being collective; None for one process alone.
    """

    def __init__(self, path: Path, comm: Any = None) -> None:
        self._collective = comm is not None
        self._open = ExitStack()
        self._file = self._open.enter_context(
            h5py.File(path, "r+", libver=FILE_VERSIONS, driver="mpio", comm=comm)
            if self._collective
            else written_hdf5(path, "r+")
        )

    def write(self, level: int, name: str, first_row: int, rows: npt.NDArray[Any]) -> None:
        """Write rows of a table, maybe none of them, from `first_row` on; its type holds them as they are."""
        dataset = self._file[f"levels/{level}/{name}"]
        if dataset.size == 0:  # on all ranks alike: no row, or an encoder's probabilities, which have no column
            return
        rows = rows.astype(dataset.dtype, copy=False)  # HDF5 converts nothing in a collective call
        if self._collective:
            _write_rows_collectively(dataset, first_row, np.ascontiguousarray(rows))
        elif len(rows):
            dataset[first_row : first_row + len(rows)] = rows

    def close(self) -> None:
        """Close the file; collective where the writing was."""
        self._open.close()


def write_slab(path: Path, slab: Slab) -> None:
    """Fill rows from one process that has the file for itself."""
    with written_hdf5(path, "r+") as file:
        for n, tables in enumerate(slab.tables):
            for name, rows in tables.items():
                if rows.size:
                    first = slab.first_row[n]
                    file[f"levels/{n}/{name}"][first : first + len(rows)] = rows


def _write_rows_collectively(dataset: h5py.Dataset, first_row: int, rows: npt.NDArray[Any]) -> None:
    # `dataset[0:0] = ...` on a rank without rows leaves that rank out of the collective and hangs the others; an empty
    # selection takes part.
    transfer = h5py.h5p.create(h5py.h5p.DATASET_XFER)
    transfer.set_dxpl_mpio(h5py.h5fd.MPIO_COLLECTIVE)
    file_space = dataset.id.get_space()
    if len(rows):
        memory_space = h5py.h5s.create_simple(rows.shape)
        file_space.select_hyperslab((first_row, *([0] * (rows.ndim - 1))), rows.shape)
    else:
        rows = np.empty((1, *rows.shape[1:]), rows.dtype)
        memory_space = h5py.h5s.create_simple(rows.shape)
        memory_space.select_none()
        file_space.select_none()
    dataset.id.write(memory_space, file_space, rows, dxpl=transfer)


def finish_file(path: Path, execution: Execution, expected_digest: str) -> None:
    """Add how the result came about, mark the file complete, seal it, and check it by reading it back.

    Raises
    ------
    InternalError
        When the file does not hold what was to be written.
    """
    with written_hdf5(path, "r+") as file:
        write_execution(file, execution)
        file.attrs["complete"] = True
        file.attrs["digest"] = expected_digest
        header = read_header(file)
        if header.has_encoded:
            file.attrs[FEATURES_DIGEST] = digest_of_features(file, header)
        features = [level["features"] for level in file["levels"].values() if "features" in level]
        left_out = [place for table in features for place in rows_on_disk(table)]
    seal_file(path, left_out)
    flush_file(path)  # what cannot be kept is to fail here, before it is read back and named
    try:
        read_digest(path, may_be_part=True, with_features=False)  # these were just read, for their digest
    except InputError as error:
        raise InternalError(f"{path}: does not hold what was to be written: {error}") from error


def write_part(file: h5py.File, record: PartRecord) -> None:
    """Add which part of how many a file is."""
    file.create_group("part").attrs.update(number=record.part.number, of=record.part.of, facts=record.facts)


def write_execution(file: h5py.File, execution: Execution) -> None:
    """Add how a file came about."""
    group = file.create_group("execution")
    for name, value in execution.attributes.items():
        group.attrs[name] = storable(value) if isinstance(value, str) else value
    create_table(group, "ranks", execution.ranks)
    create_table(group, "batches", execution.batches)


def storable(text: str) -> str:
    """Text that UTF-8 can hold: names of files may be bytes of another encoding."""
    return text.encode(errors="backslashreplace").decode()
