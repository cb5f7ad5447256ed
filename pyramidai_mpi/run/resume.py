"""Going on from journals: what earlier starts have done is found by all ranks, and given back slide by slide."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError, PyramidError, StorageError
from pyramidai_mpi.pyramid.resumption import find_frontier
from pyramidai_mpi.ranks.collectives import agree, gather_records, on_rank0, share_bytes
from pyramidai_mpi.run.deciding import attributes_of, joined_manifest, manifest_of
from pyramidai_mpi.run.pool.messages import Batch
from pyramidai_mpi.run.pool.owner import Beginning
from pyramidai_mpi.store.files.placing import stamp_of
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.format import RecordFormat
from pyramidai_mpi.store.journal.reader import FRAME_DTYPE, SlideFrames, scan_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import Analysis, OpenSlide
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.facts import Facts
    from pyramidai_mpi.run.own_disks import JournalDisks
    from pyramidai_mpi.store.files.lock import LockWatch, OutputLock
    from pyramidai_mpi.store.journal.manifest import Manifest

log = logging.getLogger(__name__)


def record_format_of(analysis: Analysis) -> RecordFormat:
    """What the journals of an analysis hold."""
    return RecordFormat(analysis.record, FAILED_DTYPE, analysis.widths)


@dataclass(frozen=True)
class Journals:
    """Where a run keeps what its ranks do, and what earlier starts have left.

    Attributes
    ----------
    shared
        Folder of the files that several slides share.
    home
        Folder of this start's files: that one, or the slide's own in a run of one slide.
    start
        First part of the names of this start's files.
    files
        Files of earlier starts, by number.
    frames
        `FRAME_DTYPE` records (n,) of all that they hold.
    record_format
        Of all of them.
    lock
        Of this start where it lies in the shared folder, on the rank in charge of a disk.
    watch
        What was seen of the locks of other starts.
    disks
        On whose disks all that is; None where all ranks see the same folder.
    """

    shared: JournalFolder
    home: JournalFolder
    start: str
    files: tuple[Path, ...]
    frames: npt.NDArray[np.void]
    record_format: RecordFormat
    lock: OutputLock | None = None
    watch: LockWatch | None = None
    disks: JournalDisks | None = None

    def of_rank(self, rank: int) -> Path:
        """A rank's file of this start."""
        return self.home.file_of_rank(self.start, rank)

    def of_slide(self, tag: int) -> SlideFrames:
        """What the journals hold of the run with this tag."""
        return SlideFrames(self.files, self.frames[self.frames["slide"] == tag], self.record_format)

    def remove_shared(self) -> None:
        """Remove the files that several slides shared, once no slide needs them, on the disk of the rank that calls."""
        self.close()
        self.shared.remove_files(self.watch)

    def close(self) -> None:
        """Let go of the start: nothing more is written to its files."""
        if self.lock is not None:
            self.lock.release()


def read_journals(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    analysis: Analysis,
    *,
    in_own_folder: bool = False,
    watch: LockWatch | None = None,
    disks: JournalDisks | None = None,
) -> Journals:
    """Find what earlier starts have done of these slides, where a run is to go on from that. Collective.

    Each rank looks through its share of the files; their frames, not what is in them, are then known to all. Whoever
    calls it closes what it returns.

    Parameters
    ----------
    each
        Settings of the runs of the slides that are left to do.
    in_own_folder
        Whether this start's files lie in the folder of the only slide, which nobody removes before all ranks have
        closed theirs; else in the folder that slides share, also where one of several is left.
    watch
        What rank 0 has seen of the locks of other starts.
    disks
        Who sees which folder; None where all ranks see the same.

    Raises
    ------
    InputError
        On all ranks: a file is damaged before its end, or cannot be read.
    StorageError
        On all ranks: the folder that the slides share cannot be made.
    """
    outputs = [settings.output.path for settings in each]
    shared = JournalFolder.shared_beside(outputs[0])
    home = JournalFolder.of(outputs[0]) if in_own_folder else shared
    record_format = record_format_of(analysis)
    lock: OutputLock | None = None

    def look() -> bytes:
        nonlocal lock
        if home is shared:
            start, lock = home.begin_start()
        else:
            start = home.next_start()
        found = [folder for folder in [shared, *folders] if folders and folder.exists]
        files = [os.fsdecode(folder.path / name) for folder in found for name in folder.files()]
        return json.dumps([start, files]).encode()

    folders = [JournalFolder.of(settings.output.path) for settings in each if settings.output.resume]
    try:
        if disks is not None and folders:
            disks.gather(folders, shared)
        start, names = json.loads(share_bytes(comm, on_rank0(comm, look)))
        if disks is not None and home is shared:
            lock = disks.begin_start(shared, start) or lock
        files = tuple(Path(name) for name in names)
        frames = _scan(comm, files, record_format, _readers(comm, disks))
    except BaseException:
        if lock is not None:
            lock.release()
        raise
    return Journals(shared, home, start, files, frames, record_format, lock, watch, disks)


def _readers(comm: MPI.Intracomm, disks: JournalDisks | None) -> Sequence[int]:
    """Ranks that see the files."""
    return range(comm.size) if disks is None else disks.ranks.home


def _scan(
    comm: MPI.Intracomm, files: Sequence[Path], record_format: RecordFormat, readers: Sequence[int]
) -> npt.NDArray[np.void]:
    """Frames of all files, which some ranks read, known to all. Collective."""
    scanned = [np.empty(0, FRAME_DTYPE)]
    error = None
    try:
        # consecutive files a rank, so that all ranks' in their order are all files in theirs
        if comm.rank in readers:
            place = readers.index(comm.rank)
            first, last = (len(files) * n // len(readers) for n in (place, place + 1))
            scanned += [scan_file(files[number], number, record_format) for number in range(first, last)]
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    gathered = gather_records(comm, np.concatenate(scanned))
    return np.frombuffer(share_bytes(comm, None if gathered is None else gathered.tobytes()), FRAME_DTYPE)


@dataclass(frozen=True)
class SlideOutput:
    """A slide's place on the disk: its lock is held, and its journal has its manifest.

    Attributes
    ----------
    path
        The result to be.
    lock, folder
        Both are given back at the end.
    replaces
        Whether the result is to replace a file that is there.
    attributes
        What `/execution` is to say of what decides the result.
    manifest
        Of the journal.
    """

    path: Path
    lock: OutputLock
    folder: JournalFolder
    replaces: bool
    attributes: Mapping[str, str | int | float]
    manifest: bytes

    def close(self) -> None:
        """Let go of the lock."""
        self.lock.release()

    def check_lock(self) -> None:
        """See that the output is still this run's; raises as `OutputLock.check`."""
        self.lock.check()

    def remove_journal(self) -> None:
        """The result is in its place: remove what led there."""
        try:
            self.lock.check()
        except PyramidError as error:
            log.warning("%s: is left as it is, though the result is complete: %s", self.folder.path, error)
            return
        if not self.folder.remove():
            log.warning("%s: cannot be removed, though the result is complete; remove it by hand", self.folder.path)


def begin_slide(
    settings: RunSettings,
    slide: OpenSlide,
    rule: TileRule,
    analysis: Analysis,
    facts: Facts,
    journals: Journals,
    lock: OutputLock,
    *,
    is_told: bool = True,
) -> Beginning:
    """Begin a slide, or go on with it where an earlier start was interrupted.

    Parameters
    ----------
    is_told
        Whether it is news to the user that there is something to go on from.

    Raises
    ------
    InputError
        The journal there is of a run that differs, or says what cannot be.
    OutputExistsError
        Another run has taken the lock.
    StorageError
        The disk is full or fails.
    """
    folder = JournalFolder.of(settings.output.path)
    manifest, mixed = _begin_or_join(folder, facts, settings, lock)
    tag = manifest.tag
    frames = journals.of_slide(tag)
    if not settings.output.resume:
        frames = replace(frames, frames=frames.frames[:0])
    records = frames.records()
    _refuse_contradictions(folder, analysis, records)
    resumption = find_frontier(records, analysis.first(rule), partial(analysis.closer, rule))
    n_restored = int(resumption.kept.sum())
    if n_restored and is_told:
        done, left = counted(n_restored, "tile"), len(resumption.frontier)
        log.info("%s: going on from the journal: %s done, %d waiting", slide.source.path.name, done, left)
    return Beginning(
        slide,
        rule,
        tag,
        resumption.frontier,
        _restored(frames, resumption.kept),
        SlideOutput(
            settings.output.path,
            lock,
            folder,
            manifest.replaces is not None,
            attributes_of(facts, mixed),
            manifest.to_bytes(),
        ),
    )


def _restored(frames: SlideFrames, kept: npt.NDArray[np.bool_]) -> Iterator[Batch]:
    for records, failed, features, kept_bytes in frames.batches(kept):
        yield Batch(records, failed, features, kept=kept_bytes)


def _refuse_contradictions(folder: JournalFolder, analysis: Analysis, records: npt.NDArray[np.void]) -> None:
    for level in np.unique(records["level"]):
        if analysis.contradictions(records[records["level"] == level]).any():
            raise InputError(
                f"{folder.path}: the journal holds decisions that do not follow from its probabilities; start afresh "
                "with --overwrite"
            )


def _begin_or_join(
    folder: JournalFolder, facts: Facts, settings: RunSettings, lock: OutputLock
) -> tuple[Manifest, str]:
    """Make the journal, or join the run that the one there is of; its manifest, and in words what is mixed by that.

    Raises
    ------
    InputError
        Names what differs from the run that the journal is of.
    StorageError
        The disk is full or fails.
    """
    lock.check()
    if settings.output.overwrite and folder.exists and not folder.remove():
        raise StorageError(f"{folder.path}: cannot be removed; see to its rights, or name another output")
    found = folder.manifest() if folder.exists else None
    mixed = ""
    if found is None:
        manifest = manifest_of(facts, stamp_of(settings.output.path))
    else:
        manifest, mixed = joined_manifest(folder.path, found, facts, accept_mixed=settings.output.accept_mixed)
    if manifest != found:
        lock.check()
        folder.create(manifest)
    if mixed:
        log.warning("%s: the last bits of probabilities may differ, as the run is of mixed %s", folder.path, mixed)
    return manifest, mixed
