"""What a rank does for the slides it owns: collect their tiles, write each file as soon as its tree is complete."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.classify import FAILED_DTYPE
from pyramidai_mpi.base.errors import ExitCode, InputError, InternalError, OutputExistsError, PyramidError, StorageError
from pyramidai_mpi.base.types import Decision, prediction_dtype
from pyramidai_mpi.pyramid.ledger import TileLedger
from pyramidai_mpi.pyramid.metrics import speedup_in_tiles
from pyramidai_mpi.pyramid.tree import canonical_rows
from pyramidai_mpi.run.assemble import assemble_result, failed_lines, run_facts
from pyramidai_mpi.run.feature_exchange import BLOCK_BYTES as FEATURE_BLOCK_BYTES
from pyramidai_mpi.run.opening import job_on, rule_of
from pyramidai_mpi.run.output import check_names, finished_before, lock_output
from pyramidai_mpi.run.pool.messages import Kind, Passport, Verdict, decode_features, records
from pyramidai_mpi.run.resume import open_journal_alone, remove_journal
from pyramidai_mpi.run.write import write_result_alone
from pyramidai_mpi.slides.readers.base import ClosedReader
from pyramidai_mpi.store.files.feature_spool import FeatureSpool
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.results.result import Execution
from pyramidai_mpi.store.results.summary import account_of, read_account

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.opening import Job
    from pyramidai_mpi.run.resume import OpenJournal
    from pyramidai_mpi.store.results.result import Result
    from pyramidai_mpi.store.results.writer import FeatureWriter


@dataclass
class _Collected:
    """One slide's tiles so far."""

    started: float = 0.0
    """When it was opened."""
    job: Job | None = None
    passport: Passport | None = None
    ledger: TileLedger | None = None
    predictions: list[npt.NDArray[np.void]] = field(default_factory=list)
    failed: list[npt.NDArray[np.void]] = field(default_factory=list)
    tiles_of_rank: dict[int, int] = field(default_factory=dict)
    spool: FeatureSpool = field(default_factory=FeatureSpool)
    features_of_rank: dict[int, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Features of a batch whose predictions are the next message of their rank."""
    failed_of_rank: dict[int, npt.NDArray[np.void]] = field(default_factory=dict)
    """Likewise, its unreadable tiles."""
    lock: OutputLock | None = None
    journal: OpenJournal | None = None

    def add(
        self,
        predictions: npt.NDArray[np.void],
        failed: npt.NDArray[np.void],
        features: npt.NDArray[np.float32] | None,
    ) -> None:
        """Take in tiles of one level."""
        assert self.ledger is not None
        if len(predictions):
            if features is not None:
                self.spool.append(int(predictions["level"][0]), features)
            self.predictions.append(predictions)
            self.failed.append(failed)
            self.ledger.record(predictions)

    def close(self) -> None:
        """Give everything back.

        Raises
        ------
        StorageError
            When the journal does not reach the disk.
        """
        self.spool.close()
        try:
            if self.journal is not None:
                self.journal.writer.close()
        finally:
            if self.lock is not None:
                self.lock.release()


class Owner:
    """The slides of this rank, from the first tile to the file in its place. Used by the main thread.

    Parameters
    ----------
    each
        Settings of every slide's run, also of those of other ranks.
    package
        The model.
    owned
        Numbers of the slides that this rank owns.
    ranks
        `RANK_DTYPE` records of all ranks, with their hosts and processors.
    n_features
        Length of each level's feature vectors, 0 where none are kept.
    engines
        The model's networks.
    rank
        This rank.
    send
        Called with (destination, kind, slide, payload).
    """

    def __init__(
        self,
        each: Sequence[RunSettings],
        package: ModelPackage,
        owned: Sequence[int],
        ranks: npt.NDArray[np.void],
        n_features: Sequence[int],
        engines: Sequence[Engine],
        rank: int,
        send: Callable[[int, Kind, int, bytes], None],
    ) -> None:
        self._each = each
        self._package = package
        self._ranks = ranks
        self._n_features = n_features
        self._engines = engines
        self._rank = rank
        self._send = send
        self._dtype = prediction_dtype(len(package.classes))
        self._collected = {slide: _Collected() for slide in owned}
        self._passports_of_ended: dict[int, bytes] = {}
        self._writing: dict[int, Future[Verdict]] = {}
        # one thread: files are written while the rank analyses other slides, one after the other
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="pyramidai-writer")

    @property
    def finished(self) -> bool:
        """Whether every slide of this rank has its verdict."""
        return not self._collected and not self._writing

    def settle_at_start(self) -> list[int]:
        """End the slides that are finished already or whose file cannot be placed; return their numbers."""
        settled = []
        for slide in list(self._collected):
            settings = self._each[slide]
            try:
                code = self._finished_before(settings)
                if code is None:
                    check_names(settings)
                    if settings.output.resume and OutputLock.is_there(settings.output.path):
                        # to wait for one that a killed run may have left, now rather than while others wait for answers
                        self._collected[slide].lock = lock_output(settings, patient=True)
                    continue
                verdict = Verdict(
                    code,
                    f"{settings.slide.path.name}: is there already, complete: {settings.output.path}",
                    read_account(settings.output.path),
                    was_finished=True,
                )
            except PyramidError as error:
                verdict = Verdict(error.exit_code, str(error))
            self._end(slide, verdict)
            settled.append(slide)
        return settled

    def _finished_before(self, settings: RunSettings) -> ExitCode | None:
        """As `output.finished_before`; a cohort goes on without being told to where nothing but that can be meant."""
        if settings.output.overwrite:
            return None
        try:
            return finished_before(settings.with_output(resume=True), self._package)
        except InputError as error:
            if settings.output.resume:
                raise
            raise OutputExistsError(f"{settings.output.path}: exists already; {error}") from error

    def receive(self, source: int, kind: Kind, slide: int, payload: bytes) -> None:
        """Take a message about an owned slide."""
        collected = self._collected.get(slide)
        if collected is None:
            # a slide that ended badly: other ranks go on with it until its tiles are used up
            if kind is Kind.ASK:
                self._send(source, Kind.PASSPORT, slide, self._passports_of_ended[slide])
            if kind is Kind.OPENED:
                self._send(source, Kind.BEGIN, slide, b"")
            return
        try:
            self._take(source, kind, slide, payload, collected)
        except InternalError:
            raise
        except PyramidError as error:  # a journal of other settings, a full disk: ends this slide, not the others
            self._end(slide, Verdict(error.exit_code, f"{self._each[slide].slide.path.name}: {error}"))
            if kind is Kind.OPENED:
                self._send(source, Kind.BEGIN, slide, b"")
            return
        if slide in self._collected and collected.ledger is not None and collected.ledger.complete:
            self._writing[slide] = self._writer.submit(self._write, slide, self._collected.pop(slide))

    def _take(self, source: int, kind: Kind, slide: int, payload: bytes, collected: _Collected) -> None:
        match kind:
            case Kind.OPENED:
                first_tiles = self._take_passport(slide, collected, Passport.from_bytes(payload))
                self._send(source, Kind.BEGIN, slide, first_tiles.tobytes())
            case Kind.REFUSED:
                self._end(slide, Verdict.from_bytes(payload))
            case Kind.ASK:
                assert collected.passport is not None
                self._send(source, Kind.PASSPORT, slide, collected.passport.to_bytes())
            case Kind.UNREADABLE:
                collected.failed_of_rank[source] = records(payload, FAILED_DTYPE)
            case Kind.FEATURES:
                collected.features_of_rank[source] = decode_features(payload, self._n_features)[1]
            case Kind.PREDICTIONS:
                assert collected.journal is not None  # a slide's tiles are known after its owner has begun it
                predictions = records(payload, self._dtype)
                batch = (
                    predictions,
                    collected.failed_of_rank.pop(source, np.empty(0, FAILED_DTYPE)),
                    collected.features_of_rank.pop(source, None),
                )
                collected.journal.writer.append(*batch)
                collected.add(*batch)
                collected.tiles_of_rank[source] = collected.tiles_of_rank.get(source, 0) + len(predictions)

    def report_written(self) -> None:
        """Tell rank 0 of the files that have been written since the last call."""
        for slide in [slide for slide, writing in self._writing.items() if writing.done()]:
            self._send(0, Kind.DONE, slide, self._writing.pop(slide).result().to_bytes())

    def stop(self) -> None:
        """Let go of the slides that are not finished; their journals stay.

        Raises
        ------
        StorageError
            When one does not reach the disk; the others do.
        """
        failure = None
        for slide in list(self._collected):
            try:
                self._collected.pop(slide).close()
            except StorageError as error:
                failure = failure or error
        if failure is not None:
            raise failure

    @property
    def is_writing(self) -> bool:
        """Whether files of finished slides are still being written, or not yet reported."""
        return bool(self._writing)

    def close(self) -> None:
        """End the writing thread."""
        self._writer.shutdown()

    def _take_passport(self, slide: int, collected: _Collected, passport: Passport) -> TileArray:
        """Begin a slide, or go on with it; the tiles to begin with."""
        settings = self._each[slide]
        collected.started = time.perf_counter()
        collected.passport = passport
        collected.job = job_on(
            ClosedReader(replace(passport.info, path=settings.slide.path)),
            settings,
            self._package,
            passport.mpp,
            passport.quickhash,
        )
        if collected.lock is None:
            collected.lock = lock_output(settings, patient=False)
        collected.job = replace(collected.job, stain=passport.stain)
        rule = rule_of(collected.job, passport.mask, passport.source)
        collected.ledger = TileLedger(rule, settings.mode)
        journal = open_journal_alone(collected.job, rule, self._engines, self._n_features, self._rank)
        collected.journal = journal
        for file in journal.restored:
            for batch in file.kept_batches(self._n_features):
                collected.add(*batch)
        return journal.frontier

    def _end(self, slide: int, verdict: Verdict) -> None:
        collected = self._collected.pop(slide)
        if collected.passport is not None:
            self._passports_of_ended[slide] = collected.passport.to_bytes()
        with suppress(StorageError):  # the slide ends with an error as it is
            collected.close()
        self._send(0, Kind.DONE, slide, verdict.to_bytes())

    def _write(self, slide: int, collected: _Collected) -> Verdict:
        assert collected.job is not None
        assert collected.passport is not None
        assert collected.journal is not None
        settings = self._each[slide]
        ranks = self._ranks.copy()
        for rank, tiles in collected.tiles_of_rank.items():
            ranks["tasks"][rank] = tiles
        try:
            collected.journal.writer.close()
            facts = run_facts(collected.job, ranks) | {
                "writer": "serial",
                "tiles_from_journal": collected.journal.n_restored,
                "cohort_slide_s": time.perf_counter() - collected.started,
            }
            predictions = np.concatenate([np.empty(0, self._dtype), *collected.predictions])
            result = assemble_result(
                collected.job,
                rule_of(collected.job, collected.passport.mask, collected.passport.source),
                predictions,
                np.concatenate([np.empty(0, FAILED_DTYPE), *collected.failed]),
                Execution(facts, ranks),
                self._n_features,
            )
            fill = partial(_fill_features, collected.spool, predictions, self._n_features)
            write_result_alone(
                result,
                settings.output.path,
                overwrite=collected.journal.overwrite,
                fill_features=fill if any(self._n_features) else None,
            )
            remove_journal(collected.job)
        except PyramidError as error:
            return Verdict(error.exit_code, f"{settings.slide.path.name}: {error}")
        finally:
            with suppress(StorageError):  # was raised above
                collected.close()
        code = ExitCode.TILES_FAILED if result.tree.n_failed else ExitCode.OK
        account = account_of(result, time.perf_counter() - collected.started)
        return Verdict(code, "\n".join([_summary(settings, result), *failed_lines(result)]), account)


def _fill_features(
    spool: FeatureSpool, predictions: npt.NDArray[np.void], widths: Sequence[int], writer: FeatureWriter
) -> None:
    """Write a slide's features in blocks of canonical rows; the spool holds them in the order of the predictions."""
    rows = canonical_rows(predictions)
    for level, width in enumerate(widths):
        if not width:
            continue
        spool_row_of = np.argsort(rows[predictions["level"] == level])
        block = max(1, FEATURE_BLOCK_BYTES // (4 * width))
        for first in range(0, len(spool_row_of), block):
            writer.write(level, first, spool.read(level, spool_row_of[first : first + block], width))


def _summary(settings: RunSettings, result: Result) -> str:
    tree = result.tree
    if tree.n_tiles == 0:
        where = " in the regions given" if settings.slide.regions.given else ""
        name = settings.slide.path.name
        return f"{name}: no tissue found{where}, so the result is valid and empty: {settings.output.path}"
    failed = f", {tree.n_failed} unreadable" if tree.n_failed else ""
    return (
        f"{settings.slide.path.name}: {tree.n_tiles} tiles, {tree.count(Decision.ZOOM)[0]} positive{failed}, "
        f"speedup {speedup_in_tiles(result.n_reference_tiles, tree.n_tiles):.2f}: {settings.output.path}"
    )
