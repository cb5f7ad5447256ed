"""What a rank does for the slides it owns: collect their tiles, write each file as soon as its tree is complete."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyser import FAILED_DTYPE
from pyramidai_mpi.assembly import assemble_result, failed_lines, run_facts
from pyramidai_mpi.cohort.messages import Kind, Passport, Verdict, decode_features, records
from pyramidai_mpi.errors import ExitCode, PyramidError
from pyramidai_mpi.feature_exchange import BLOCK_BYTES as FEATURE_BLOCK_BYTES
from pyramidai_mpi.job import check_settings_target, job_on, rule_of
from pyramidai_mpi.ledger import TileLedger
from pyramidai_mpi.metrics import speedup_in_tiles
from pyramidai_mpi.recording import write_result_alone
from pyramidai_mpi.slides.base import ClosedReader
from pyramidai_mpi.store.result import Execution
from pyramidai_mpi.store.spool import FeatureSpool
from pyramidai_mpi.tree import canonical_rows
from pyramidai_mpi.types import Decision, prediction_dtype

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.config import RunSettings
    from pyramidai_mpi.inference.package import ModelPackage
    from pyramidai_mpi.job import Job
    from pyramidai_mpi.store.result import Result
    from pyramidai_mpi.store.writer import FeatureWriter


@dataclass
class _Collected:
    """One slide's tiles so far."""

    started: float
    job: Job | None = None
    passport: Passport | None = None
    ledger: TileLedger | None = None
    predictions: list[npt.NDArray[np.void]] = field(default_factory=list)
    failed: list[npt.NDArray[np.void]] = field(default_factory=list)
    tiles_of_rank: dict[int, int] = field(default_factory=dict)
    spool: FeatureSpool = field(default_factory=FeatureSpool)
    features_of_rank: dict[int, tuple[int, npt.NDArray[np.float32]]] = field(default_factory=dict)
    """Features of a batch whose predictions are the next message of their rank."""
    waiting: list[int] = field(default_factory=list)
    """Ranks that asked for the passport before it came."""


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
        send: Callable[[int, Kind, int, bytes], None],
    ) -> None:
        self._each = each
        self._package = package
        self._ranks = ranks
        self._n_features = n_features
        self._send = send
        self._dtype = prediction_dtype(len(package.classes))
        now = time.perf_counter()
        self._collected = {slide: _Collected(now) for slide in owned}
        self._passports_of_ended: dict[int, bytes] = {}
        self._writing: dict[int, Future[Verdict]] = {}
        # one thread: files are written while the rank analyses other slides, one after the other
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="pyramidai-writer")

    @property
    def finished(self) -> bool:
        """Whether every slide of this rank has its verdict."""
        return not self._collected and not self._writing

    def refuse_taken_outputs(self) -> list[int]:
        """End the slides whose file cannot be placed, before any work on them; return their numbers."""
        refused = []
        for slide in list(self._collected):
            try:
                check_settings_target(self._each[slide], overwrite=self._each[slide].overwrite)
            except PyramidError as error:
                self._end(slide, Verdict(error.exit_code, str(error)))
                refused.append(slide)
        return refused

    def receive(self, source: int, kind: Kind, slide: int, payload: bytes) -> None:
        """Take a message about an owned slide."""
        collected = self._collected.get(slide)
        if collected is None:
            # a slide that ended badly: other ranks go on with it until its tiles are used up
            if kind is Kind.ASK:
                self._send(source, Kind.PASSPORT, slide, self._passports_of_ended[slide])
            return
        match kind:
            case Kind.OPENED:
                self._take_passport(slide, collected, Passport.from_bytes(payload))
            case Kind.REFUSED:
                self._end(slide, Verdict.from_bytes(payload))
                return
            case Kind.ASK:
                if collected.passport is None:
                    collected.waiting.append(source)
                else:
                    self._send(source, Kind.PASSPORT, slide, collected.passport.to_bytes())
            case Kind.UNREADABLE:
                collected.failed.append(records(payload, FAILED_DTYPE))
            case Kind.FEATURES:
                collected.features_of_rank[source] = decode_features(payload, self._n_features)
            case Kind.PREDICTIONS:
                predictions = records(payload, self._dtype)
                if source in collected.features_of_rank:
                    collected.spool.append(*collected.features_of_rank.pop(source))
                collected.predictions.append(predictions)
                collected.tiles_of_rank[source] = collected.tiles_of_rank.get(source, 0) + len(predictions)
                if collected.ledger is not None:
                    collected.ledger.record(predictions)
        if collected.ledger is not None and collected.ledger.complete:
            self._writing[slide] = self._writer.submit(self._write, slide, self._collected.pop(slide))

    def report_written(self) -> None:
        """Tell rank 0 of the files that have been written since the last call."""
        for slide in [slide for slide, writing in self._writing.items() if writing.done()]:
            self._send(0, Kind.DONE, slide, self._writing.pop(slide).result().to_bytes())

    def close(self) -> None:
        """End the writing thread."""
        self._writer.shutdown()

    def _take_passport(self, slide: int, collected: _Collected, passport: Passport) -> None:
        settings = self._each[slide]
        collected.passport = passport
        collected.job = job_on(
            ClosedReader(replace(passport.info, path=settings.slide)),
            settings,
            self._package,
            passport.mpp,
            passport.quickhash,
        )
        rule = rule_of(collected.job, passport.mask)
        collected.ledger = TileLedger(rule, settings.mode)
        for predictions in collected.predictions:
            collected.ledger.record(predictions)
        for rank in collected.waiting:
            self._send(rank, Kind.PASSPORT, slide, passport.to_bytes())
        collected.waiting.clear()

    def _end(self, slide: int, verdict: Verdict) -> None:
        collected = self._collected.pop(slide)
        if collected.passport is not None:
            self._passports_of_ended[slide] = collected.passport.to_bytes()
        collected.spool.close()
        self._send(0, Kind.DONE, slide, verdict.to_bytes())

    def _write(self, slide: int, collected: _Collected) -> Verdict:
        assert collected.job is not None
        assert collected.passport is not None
        settings = self._each[slide]
        ranks = self._ranks.copy()
        for rank, tiles in collected.tiles_of_rank.items():
            ranks["tasks"][rank] = tiles
        try:
            facts = run_facts(collected.job, ranks) | {
                "writer": "serial",
                "cohort_slide_s": time.perf_counter() - collected.started,
            }
            predictions = np.concatenate([np.empty(0, self._dtype), *collected.predictions])
            result = assemble_result(
                collected.job,
                rule_of(collected.job, collected.passport.mask),
                predictions,
                np.concatenate([np.empty(0, FAILED_DTYPE), *collected.failed]),
                Execution(facts, ranks),
                self._n_features,
            )
            fill = partial(_fill_features, collected.spool, predictions, self._n_features)
            write_result_alone(
                result,
                settings.output,
                overwrite=settings.overwrite,
                fill_features=fill if any(self._n_features) else None,
            )
        except PyramidError as error:
            return Verdict(error.exit_code, f"{settings.slide.name}: {error}")
        finally:
            collected.spool.close()
        code = ExitCode.TILES_FAILED if result.tree.n_failed else ExitCode.OK
        return Verdict(code, "\n".join([_summary(settings, result), *failed_lines(result)]))


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
        return f"{settings.slide.name}: no tissue found, so the result is valid and empty: {settings.output}"
    failed = f", {tree.n_failed} unreadable" if tree.n_failed else ""
    return (
        f"{settings.slide.name}: {tree.n_tiles} tiles, {tree.count(Decision.ZOOM)[0]} positive{failed}, "
        f"speedup {speedup_in_tiles(result.n_reference_tiles, tree.n_tiles):.2f}: {settings.output}"
    )
