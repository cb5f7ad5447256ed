"""Going on from a journal: what is done is read back by all ranks, what is left to do is found by rank 0."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from pyramidai_mpi.analyses.classify import FAILED_DTYPE
from pyramidai_mpi.base.errors import InputError, PyramidError, StorageError
from pyramidai_mpi.base.types import TILE_DTYPE, prediction_dtype
from pyramidai_mpi.pyramid.decision import decide
from pyramidai_mpi.pyramid.resumption import find_frontier
from pyramidai_mpi.ranks.collectives import agree, allgather, gather_records, on_rank0, scatter_rows, share_bytes
from pyramidai_mpi.run.deciding import attributes_of, facts_at_work, joined_manifest, manifest_of, run_hash
from pyramidai_mpi.store.files.placing import stamp_of
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.format import RecordFormat
from pyramidai_mpi.store.journal.reader import Batch, read_journal_file
from pyramidai_mpi.store.journal.restored import RestoredFile
from pyramidai_mpi.store.journal.writer import JournalWriter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import PredictionArray, TileArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.deciding import Facts
    from pyramidai_mpi.run.opening import Job
    from pyramidai_mpi.run.pool.tile_workload import TileWorkload

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OpenJournal:
    """A rank's journal at the start of the analysis.

    Attributes
    ----------
    writer
        For what this rank finishes from now on.
    restored
        This rank's share of what earlier starts of the run have finished.
    frontier
        Tiles to begin with, those of all ranks.
    n_restored
        Tiles that earlier starts have finished, all together.
    overwrite
        Whether the result is to replace a file that is there.
    attributes
        What `/execution` is to say of what decides the result.
    """

    writer: JournalWriter
    restored: tuple[RestoredFile, ...]
    frontier: TileArray
    n_restored: int
    overwrite: bool
    attributes: dict[str, str | int | float]


def open_journal(
    comm: MPI.Intracomm, job: Job, rule: TileRule, engines: Sequence[Engine], widths: Sequence[int]
) -> OpenJournal:
    """Begin or go on with the journal of a run. Collective.

    Raises
    ------
    InputError
        On all ranks: the journal there is of a run that differs, or damaged before its end.
    StorageError
        On all ranks: the disk is full or fails.
    """
    folder = JournalFolder.of(job.settings.output.path)
    facts = facts_at_work(job, rule, engines, widths)
    begun = on_rank0(comm, lambda: _begin_or_check(folder, facts, job.settings))
    start = _Start(**json.loads(share_bytes(comm, None if begun is None else json.dumps(asdict(begun)).encode())))
    record_format = _record_format(job, facts, widths)
    read: list[_ReadFile] = []
    error = None
    try:
        # consecutive files a rank, so that all ranks' in their order are all files in theirs
        first, last = (len(start.files) * rank // comm.size for rank in (comm.rank, comm.rank + 1))
        read = [_read(folder.path / name, record_format, job) for name in start.files[first:last]]
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    own_predictions = _all_predictions(read, record_format)
    predictions = gather_records(comm, own_predictions)
    lengths = allgather(comm, np.array([len(own_predictions)]))[:, 0]
    kept = None
    frontier = None
    if predictions is not None:
        resumption = find_frontier(predictions, rule, job.settings.mode)
        kept = np.split(resumption.kept.view(np.uint8), np.cumsum(lengths)[:-1])
        frontier = resumption.frontier.tobytes()
    own_kept = scatter_rows(comm, kept, np.dtype(np.uint8), ()).astype(bool)
    shared = share_bytes(comm, frontier)
    restored = _with_kept(read, own_kept)
    n_restored = int(allgather(comm, np.array([own_kept.sum()])).sum())
    return OpenJournal(
        JournalWriter(folder.file_of_rank(start.word, comm.rank), record_format),
        restored,
        np.frombuffer(shared, TILE_DTYPE).copy(),
        n_restored,
        overwrite=start.replaces,
        attributes=attributes_of(facts, start.mixed),
    )


def open_journal_alone(
    job: Job, rule: TileRule, engines: Sequence[Engine], widths: Sequence[int], rank: int
) -> OpenJournal:
    """Like `open_journal`, by one rank and without the others.

    Raises
    ------
    InputError, StorageError
        As there.
    """
    folder = JournalFolder.of(job.settings.output.path)
    facts = facts_at_work(job, rule, engines, widths)
    start = _begin_or_check(folder, facts, job.settings)
    record_format = _record_format(job, facts, widths)
    read = [_read(folder.path / name, record_format, job) for name in start.files]
    resumption = find_frontier(_all_predictions(read, record_format), rule, job.settings.mode)
    return OpenJournal(
        JournalWriter(folder.file_of_rank(start.word, rank), record_format),
        _with_kept(read, resumption.kept),
        resumption.frontier,
        int(resumption.kept.sum()),
        overwrite=start.replaces,
        attributes=attributes_of(facts, start.mixed),
    )


def take_over(comm: MPI.Intracomm, journal: OpenJournal, workload: TileWorkload) -> None:
    """Give a rank's workload what earlier starts have finished, and let it go on with the journal. Collective.

    Raises
    ------
    InputError, StorageError
        On all ranks: features that cannot be read back, or for which there is no room.
    """
    error = None
    try:
        for file in journal.restored:
            workload.restore(file)
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    workload.journal = journal.writer
    if journal.n_restored and comm.rank == 0:
        log.info("going on from the journal: %d tiles are done, %d wait", journal.n_restored, len(journal.frontier))


def close_journal(comm: MPI.Intracomm, journal: OpenJournal) -> None:
    """Flush all ranks' journals to the disk. Collective.

    Raises
    ------
    StorageError
        On all ranks, when one's cannot be.
    """
    error = None
    try:
        journal.writer.close()
    except StorageError as caught:
        error = caught
    agree(comm, error)


def remove_journal(job: Job) -> None:
    """The result is in its place: remove what led there. One process calls it."""
    folder = JournalFolder.of(job.settings.output.path)
    if not folder.remove():
        log.warning("%s: cannot be removed, though the result is complete; remove it by hand", folder.path)


def kept_in_words(comm: MPI.Intracomm, job: Job, workload: TileWorkload) -> str:
    """What a run that stops has kept. Collective."""
    n_done = int(allgather(comm, np.array([len(workload.predictions())])).sum())
    return f"{n_done} tiles are done and kept in {JournalFolder.of(job.settings.output.path).path}"


@dataclass(frozen=True)
class _Start:
    """One start of a run: first part of its files' names, earlier files, whether one is replaced, what is mixed."""

    word: str
    files: tuple[str, ...]
    replaces: bool
    mixed: str


_ReadFile: TypeAlias = "tuple[Path, list[Batch]]"


def _begin_or_check(folder: JournalFolder, facts: Facts, settings: RunSettings) -> _Start:
    """Make the journal, or see that the one there is of this run.

    Raises
    ------
    InputError
        Names what differs from the run that the journal is of.
    StorageError
        The disk is full or fails.
    """
    if settings.output.overwrite and folder.exists and not folder.remove():
        raise StorageError(f"{folder.path}: cannot be removed; see to its rights, or name another output")
    found = folder.manifest() if folder.exists else None
    mixed = ""
    if found is None:
        manifest = manifest_of(facts, stamp_of(settings.output.path))
    else:
        manifest, mixed = joined_manifest(folder.path, found, facts, accept_mixed=settings.output.accept_mixed)
    if manifest != found:
        folder.create(manifest)
    if mixed:
        log.warning("%s: the last bits of probabilities may differ, as the run is of mixed %s", folder.path, mixed)
    return _Start(folder.next_start(), tuple(folder.files()), manifest.replaces is not None, mixed)


def _record_format(job: Job, facts: Facts, widths: Sequence[int]) -> RecordFormat:
    return RecordFormat(prediction_dtype(len(job.package.classes)), FAILED_DTYPE, tuple(widths), run_hash(facts))


def _read(path: Path, record_format: RecordFormat, job: Job) -> _ReadFile:
    """A file's batches, their decisions made again."""
    batches = read_journal_file(path, record_format)
    for batch in batches:
        level = int(batch.predictions["level"][0])
        again = decide(batch.predictions["probability"], job.package.score_column, job.thresholds[level])
        if not np.array_equal(again, batch.predictions["decision"]):
            raise InputError(f"{path}: holds decisions that do not follow from its probabilities; remove that file")
    return path, batches


def _all_predictions(read: list[_ReadFile], record_format: RecordFormat) -> PredictionArray:
    empty = np.empty(0, record_format.prediction)
    return np.concatenate([empty, *(batch.predictions for _, batches in read for batch in batches)])


def _with_kept(read: list[_ReadFile], kept: npt.NDArray[np.bool_]) -> tuple[RestoredFile, ...]:
    counts = [sum(len(batch.predictions) for batch in batches) for _, batches in read]
    parts = np.split(kept, np.cumsum(counts)[:-1]) if counts else []
    return tuple(RestoredFile(path, batches, part) for (path, batches), part in zip(read, parts, strict=True))
