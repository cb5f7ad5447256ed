"""From a result in memory to the result file, with the features that the ranks hold."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

import pyramidai_mpi
from pyramidai_mpi.base.errors import StorageError, UsageError
from pyramidai_mpi.base.types import TILE_DTYPE
from pyramidai_mpi.pyramid.tree import canonical_rows
from pyramidai_mpi.ranks.collectives import (
    agree,
    all_to_all_rows,
    allgather,
    gather_records,
    on_rank0,
    scatter_rows,
    share_bytes,
)
from pyramidai_mpi.store.files.placing import discard, place, storage_errors, temporary_name
from pyramidai_mpi.store.results.writer import (
    ROWS_A_ROUND,
    Slab,
    TableWriter,
    can_write_in_parallel,
    create_file,
    finish_file,
    slab_of,
    write_slab,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.store.files.feature_spool import FeatureSpool
    from pyramidai_mpi.store.results.result import Result


FEATURE_BLOCK_BYTES = 32 << 20
"""Features that a rank holds at a time, sending or receiving."""


@dataclass(frozen=True)
class Features:
    """One rank's features on their way to the file.

    Attributes
    ----------
    spool
        Where they are.
    rows
        For each level int64 (n,): row of the result's table that the spool's row i belongs to.
    widths
        For each level the length of a vector, 0 for none.
    """

    spool: FeatureSpool
    rows: tuple[npt.NDArray[np.int64], ...]
    widths: tuple[int, ...]


def locate_features(
    comm: MPI.Intracomm, spool: FeatureSpool | None, tiles: Sequence[TileArray], widths: tuple[int, ...]
) -> Features | None:
    """Find where in the result each of this rank's features belongs; None when the run keeps none. Collective.

    Parameters
    ----------
    spool, tiles
        The features, rows of a level in the order of these tiles.
    widths
        For each level the length of a vector, 0 for none.
    """
    if spool is None:
        return None
    own = np.concatenate([np.empty(0, TILE_DTYPE), *tiles])
    everyone = gather_records(comm, own)
    counts = allgather(comm, np.array([len(own)]))[:, 0]
    parts = None if everyone is None else np.split(canonical_rows(everyone), np.cumsum(counts)[:-1])
    rows = scatter_rows(comm, parts, np.dtype(np.int64), ()).astype(np.int64)
    return Features(spool, tuple(rows[own["level"] == n] for n in range(len(widths))), widths)


def write_result(
    comm: MPI.Intracomm,
    result: Result | None,
    output: Path,
    *,
    overwrite: bool,
    parallel: bool,
    check: Callable[[], None] = lambda: None,
    features: Features | None = None,
) -> None:
    """Write the result under a temporary name, check it, and give it its name. Collective.

    Parameters
    ----------
    result
        On rank 0; None on the others.
    output
        The file to be.
    overwrite
        Replace a file of that name.
    parallel
        Whether all ranks write their share through MPI-IO; else rank 0 writes alone. The content is the same.
    check
        Called on rank 0 before the file gets its name; raises when the name is not this run's to give any more.
    features
        This rank's features, when the result has any.

    Raises
    ------
    OutputExistsError, StorageError
        On all ranks. Nothing is left under either name.
    """
    name = os.fsencode(temporary_name(output).name) if comm.rank == 0 else None
    temporary = output.with_name(os.fsdecode(share_bytes(comm, name)))
    try:
        on_rank0(comm, lambda: _create(temporary, result))
        if parallel:
            _fill_in_parallel(comm, temporary, result)
        if features is not None:
            _fill_features(comm, temporary, features, parallel=parallel)
        on_rank0(comm, lambda: _finish(temporary, result, output, overwrite=overwrite, check=check, filled=parallel))
    except BaseException as failure:
        if comm.rank == 0:
            discard(temporary)
        if isinstance(failure, StorageError) and failure.agreed:
            on_rank0(comm, check)  # a run that took this one's place has swept the file away: that is the reason then
        raise


def write_result_alone(
    result: Result,
    output: Path,
    *,
    overwrite: bool,
    check: Callable[[], None] = lambda: None,
    fill_features: Callable[[TableWriter], None] | None = None,
) -> None:
    """Like `write_result`, from one process and without the others.

    Parameters
    ----------
    check
        As there.
    fill_features
        Called with an open writer when the result has features.

    Raises
    ------
    OutputExistsError, StorageError
        Nothing is left under either name.
    """
    temporary = temporary_name(output)
    try:
        _create(temporary, result)
        if fill_features is not None:
            with storage_errors(temporary):
                writer = TableWriter(temporary)
                try:
                    fill_features(writer)
                finally:
                    writer.close()
        _finish(temporary, result, output, overwrite=overwrite, check=check, filled=False)
    except BaseException as failure:
        discard(temporary)
        if isinstance(failure, StorageError):
            check()  # as above
        raise


def fill_features(
    spool: FeatureSpool, records: npt.NDArray[np.void], widths: Sequence[int], writer: TableWriter
) -> None:
    """Write a slide's features in blocks of canonical rows; the spool holds them in the order of the records."""
    rows = canonical_rows(records)
    for level, width in enumerate(widths):
        if not width:
            continue
        spool_row_of = np.argsort(rows[records["level"] == level])
        block = max(1, FEATURE_BLOCK_BYTES // (4 * width))
        for first in range(0, len(spool_row_of), block):
            writer.write(level, "features", first, spool.read(level, spool_row_of[first : first + block], width))


def _create(temporary: Path, result: Result | None) -> None:
    assert result is not None
    with storage_errors(temporary):
        create_file(temporary, result, datetime.now(UTC), pyramidai_mpi.__version__)


def _fill_in_parallel(comm: MPI.Intracomm, temporary: Path, result: Result | None) -> None:
    """Fill the level tables, some rows a rank at a time. A failing writer goes on taking part; then all raise."""
    slab = None if result is None else slab_of(result, 0, 1)
    layout = json.loads(share_bytes(comm, None if slab is None else json.dumps(_layout(slab)).encode()))
    error: StorageError | None = None
    writer = None
    try:
        with storage_errors(temporary):
            writer = TableWriter(temporary, comm)
    except StorageError as caught:
        error = caught
    agree(comm, error)
    assert writer is not None
    for n, tables in enumerate(layout):
        for name, (dtype, n_rows, row_shape) in tables.items():
            whole = None if slab is None else slab.tables[n][name]
            for round_begin in range(0, n_rows, comm.size * ROWS_A_ROUND):
                begins = [min(round_begin + rank * ROWS_A_ROUND, n_rows) for rank in range(comm.size + 1)]
                parts = None if whole is None else [whole[begin:end] for begin, end in pairwise(begins)]
                rows = scatter_rows(comm, parts, np.dtype(dtype), tuple(row_shape))
                try:
                    with storage_errors(temporary):
                        writer.write(n, name, begins[comm.rank], rows)
                except StorageError as caught:
                    error = error or caught
    agree(comm, _closed(writer, temporary, error))


def _closed(writer: TableWriter | None, temporary: Path, error: StorageError | None) -> StorageError | None:
    """Close a writer, collectively where it is; what went wrong first, if anything did."""
    try:
        with storage_errors(temporary):
            if writer is not None:
                writer.close()
    except StorageError as caught:
        return error or caught
    return error


def _fill_features(comm: MPI.Intracomm, temporary: Path, features: Features, *, parallel: bool) -> None:
    """Write the feature tables. A failing writer goes on taking part, so that nobody waits for it; then all raise."""
    writes = parallel or comm.rank == 0
    error: StorageError | None = None
    writer = None
    try:
        with storage_errors(temporary):
            writer = TableWriter(temporary, comm if parallel else None) if writes else None
    except StorageError as caught:
        error = caught
    agree(comm, error)
    for level, width in enumerate(features.widths):
        own_rows = features.rows[level]
        n_rows = int(allgather(comm, np.array([len(own_rows)])).sum())
        shares = even_shares(n_rows, comm.size if parallel else 1)
        if not width or not n_rows:
            continue
        for first_row, block in blocks_for_writers(comm, features.spool, level, own_rows, width, shares):
            try:
                with storage_errors(temporary):
                    if writer is not None:
                        writer.write(level, "features", first_row, block)
            except StorageError as caught:
                error = error or caught
    agree(comm, _closed(writer, temporary, error))


def _layout(slab: Slab) -> list[dict[str, tuple[str, int, tuple[int, ...]]]]:
    """Type, length and row shape of every table of each level, for the ranks that have not seen the result."""
    return [
        {name: (rows.dtype.str, len(rows), rows.shape[1:]) for name, rows in tables.items()} for tables in slab.tables
    ]


def _finish(
    temporary: Path,
    result: Result | None,
    output: Path,
    *,
    overwrite: bool,
    check: Callable[[], None],
    filled: bool,
) -> None:
    assert result is not None
    with storage_errors(temporary):
        if not filled:
            write_slab(temporary, slab_of(result, 0, 1))
        finish_file(temporary, result.execution, result.digest())
        place(temporary, output, overwrite=overwrite, check=check)


def choose_parallel(comm: MPI.Intracomm, writer: str) -> bool:
    """Whether all ranks write together: by ``auto`` when they are several and each has an h5py with MPI. Collective.

    Raises
    ------
    UsageError
        On all ranks, when ``mpio`` is asked for and cannot be.
    """
    can = bool(allgather(comm, np.array([can_write_in_parallel()])).all())
    if writer == "mpio":
        agree(comm, None if can else UsageError("--writer mpio: this h5py was built without MPI; use --writer auto"))
    return can and (writer == "mpio" or (writer == "auto" and comm.size > 1))


def even_shares(n_rows: int, n_writers: int) -> list[tuple[int, int]]:
    """First and last (excluded) row of each writer's share."""
    return [(n_rows * w // n_writers, n_rows * (w + 1) // n_writers) for w in range(n_writers)]


def blocks_for_writers(
    comm: MPI.Intracomm,
    spool: FeatureSpool,
    level: int,
    own_rows: npt.NDArray[np.int64],
    width: int,
    shares: Sequence[tuple[int, int]],
) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    """Blocks of consecutive rows of one level for this rank to write. Collective, block by block.

    Parameters
    ----------
    spool
        This rank's features; row i of the level belongs at ``own_rows[i]`` of the result.
    level
        Analysis level.
    own_rows
        int64 (n,), distinct over all ranks and together all rows of the level.
    width
        Length F of a vector.
    shares
        Rows [first, last) that each of the ranks 0, 1, ... writes; ranks beyond the list write nothing.

    Yields
    ------
    first_row : int
        Where the block belongs.
    features : numpy.ndarray
        float32 (m, F); m is 0 on ranks that have nothing to write in this round. All ranks get the same number of
        blocks.
    """
    order = np.argsort(own_rows)
    ordered = own_rows[order]
    # at worst one rank holds all rows of a round, and one writer gets as many
    per_writer = max(1, FEATURE_BLOCK_BYTES // (4 * width * len(shares)))
    longest = max(last - first for first, last in shares)
    for start in range(0, longest, per_writer):
        windows = [(min(first + start, last), min(first + start + per_writer, last)) for first, last in shares]
        windows += [(0, 0)] * (comm.size - len(shares))
        cuts = [np.searchsorted(ordered, window) for window in windows]
        mine = np.concatenate([order[a:b] for a, b in cuts])
        features = spool.read(level, mine, width)
        counts = [int(b - a) for a, b in cuts]
        rows = all_to_all_rows(comm, own_rows[mine].reshape(-1, 1), counts)[:, 0]
        received = all_to_all_rows(comm, features, counts)
        first, last = windows[comm.rank]
        block = np.empty((last - first, width), np.float32)
        block[rows - first] = received
        yield first, block
