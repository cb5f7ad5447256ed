"""What a slide's owner does at its beginning and its end: its place on the disk, its result, its file."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import ExitCode, PyramidError
from pyramidai_mpi.pyramid.metrics import speedup_in_tiles
from pyramidai_mpi.pyramid.tree import canonical_rows
from pyramidai_mpi.run.aggregation import SlideAggregator, check_slide
from pyramidai_mpi.run.assemble import assemble_result, failed_lines, looked_at_in_words, with_work
from pyramidai_mpi.run.auditing import audit_facts, audit_in_words
from pyramidai_mpi.run.deciding import facts_at_work, run_facts
from pyramidai_mpi.run.opening import known_from
from pyramidai_mpi.run.output import lock_output
from pyramidai_mpi.run.parts import part_record
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.run.resume import begin_slide
from pyramidai_mpi.run.shared_passes import error_in, error_in_words
from pyramidai_mpi.run.write import fill_features, write_result_alone
from pyramidai_mpi.slides.identity import FullHash
from pyramidai_mpi.store.results.reader import read_stated_digest
from pyramidai_mpi.store.results.result import Execution
from pyramidai_mpi.store.results.summary import account_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.classify import Classify
    from pyramidai_mpi.analyses.dense import Dense
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.pool.messages import SlideDescription
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.run.resume import Journals
    from pyramidai_mpi.run.strides import LevelPlan
    from pyramidai_mpi.store.files.lock import OutputLock
    from pyramidai_mpi.store.results.result import PartRecord, Result
    from pyramidai_mpi.store.results.summary import SlideAccount


class Finisher:
    """Begins and finishes the slides of a run that classifies tiles.

    Parameters
    ----------
    each
        Settings of every slide's run.
    package, analysis, plan
        The model, what is done with it, and the levels of the run.
    journals
        Where they are journalled.
    locks
        Of slides whose output is locked already; a lock is taken out of it when its slide begins.
    ranks
        `RANK_DTYPE` records of all ranks, with their hosts and processors.
    most_tiles
        How many tiles of a slide the model's aggregator can look at, 0 for any number.
    """

    def __init__(
        self,
        each: Sequence[RunSettings],
        package: ModelPackage,
        analysis: Classify | Dense,
        plan: LevelPlan,
        journals: Journals,
        locks: dict[int, OutputLock],
        ranks: npt.NDArray[np.void],
        most_tiles: int = 0,
    ) -> None:
        self._each = each
        self._package = package
        self._analysis = analysis
        self._plan = plan
        self._journals = journals
        self._locks = locks
        self._ranks = ranks
        self._hashes: dict[int, FullHash] = {}
        self._parts: dict[int, PartRecord | None] = {}
        entry = package.aggregator
        self._most_tiles = most_tiles
        self._aggregator = None if entry is None else SlideAggregator(entry, self.widths[0])

    @property
    def widths(self) -> tuple[int, ...]:
        """Length of each level's feature vectors, 0 where none are kept."""
        return self._analysis.widths

    def begin(self, number: int, description: SlideDescription) -> Beginning:
        """Take a slide's place on the disk, and find where to go on from.

        Raises
        ------
        PyramidError
            Another run is at work there, the journal is of another run, the disk fails.
        """
        settings, analysis = self._each[number], self._analysis
        slide, rule = known_from(settings.slide, self._package, description, self._plan.levels)
        lock = self._locks.pop(number, None) or lock_output(settings, patient=False)
        try:
            check_slide(settings, self._package, rule, self._most_tiles)
            if settings.slide.sha256:
                self._hashes[number] = FullHash(settings.slide.path)
            deciding = facts_at_work(settings, self._package, slide, rule, analysis.networks, analysis.widths)
            self._parts[number] = part_record(settings.slide.part, deciding)
            return begin_slide(settings, slide, rule, analysis, deciding, self._journals, lock)
        except BaseException:
            lock.release()
            raise

    def write(self, number: int, collected: Collected) -> SlideEnd:
        """Write the result of a complete slide, by this rank alone.

        Raises
        ------
        Exception
            Whatever keeps it from being written: the slide has failed then.
        """
        settings, output = self._each[number], collected.beginning.output
        try:
            seconds = time.perf_counter() - collected.started
            facts: dict[str, str | int | float] = {"writer": "serial", "cohort_slide_s": seconds}
            result = self.assemble(number, collected, facts, self._ranks)
            if self.predicts(number):
                result = self.with_prediction(number, result, lambda: self._features_of(collected))
            fill = partial(fill_features, collected.spool, collected.records.rows, self.widths)
            write_result_alone(
                result,
                settings.output.path,
                overwrite=output.replaces,
                check=output.check_lock,
                fill_features=fill if any(self.widths) else None,
            )
            output.remove_journal()
        finally:
            with suppress(PyramidError):
                collected.close()
        return self.end_of(number, result, time.perf_counter() - collected.started)

    def predicts(self, number: int) -> bool:
        """Whether a slide gets a prediction: not from a part of its tiles."""
        return self._aggregator is not None and self._each[number].slide.part is None

    def with_prediction(
        self, number: int, result: Result | None, features_of: Callable[[], npt.NDArray[np.float32] | None]
    ) -> Result:
        """A slide's result with its prediction; see `SlideAggregator.with_prediction`."""
        assert self._aggregator is not None
        assert result is not None

        def features() -> npt.NDArray[np.float32]:
            found = features_of()
            assert found is not None
            return found

        return self._aggregator.with_prediction(result, self._each[number].slide.path, features)

    def _features_of(self, collected: Collected) -> npt.NDArray[np.float32]:
        """The features of level 0 in the result's order, float32 (N, F)."""
        records = collected.records.rows
        rows = np.argsort(canonical_rows(records)[records["level"] == 0])
        return collected.spool.read(0, rows, self.widths[0])

    def assemble(
        self,
        number: int,
        collected: Collected,
        facts: Mapping[str, str | int | float],
        ranks: npt.NDArray[np.void],
    ) -> Result:
        """Put what was collected of a slide into canonical order beside what it was made with.

        Parameters
        ----------
        facts, ranks
            For `/execution`: plain facts, and `RANK_DTYPE` records to which the work on this slide is added.
        """
        settings, slide = self._each[number], collected.beginning.slide
        ranks = with_work(ranks, collected.work)
        facts = {
            **run_facts(settings, slide, ranks),
            **collected.beginning.output.attributes,
            **self._approximate_error(collected),
            "tiles_from_journal": collected.n_restored,
            **audit_facts(settings.schedule, collected.n_audited),
            **facts,
        }
        return assemble_result(
            settings,
            self._package,
            slide,
            collected.beginning.rule,
            self._plan,
            collected.records.rows,
            collected.failed.rows,
            Execution(facts, ranks, collected.all_batches()),
            self.widths,
            self._hashes.pop(number).result() if number in self._hashes else None,
            self._parts.pop(number),
        )

    def _approximate_error(self, collected: Collected) -> dict[str, float | int]:
        if self._plan.rule is None or not self._plan.rule.n_compared:
            return {}
        return error_in(collected.records.rows, self._analysis.thresholds)

    def end_of(self, number: int, result: Result, seconds: float) -> SlideEnd:
        """How a slide has ended whose result is in its place."""
        account, part = account_of(result, seconds), self._each[number].slide.part
        if result.has_encoded:  # its digest covers features, which are in the file alone
            account = replace(account, digest=read_stated_digest(self._each[number].output.path))
        if part is not None:
            account = replace(account, warning="")  # it is the whole slide of which that is to be said
        elif account.is_unreadable:
            return SlideEnd(ExitCode.BAD_INPUT, unreadable_line(self._each[number], account, result), account)
        code = ExitCode.TILES_FAILED if result.tree.n_failed else ExitCode.OK
        lines = [_summary(self._each[number], result, account.warning), *failed_lines(result)]
        if approximate := error_in_words(result.execution.attributes):
            lines.insert(1, approximate)
        if audited := audit_in_words(result.execution.attributes, result.tree.n_tiles):
            lines.insert(1, audited)
        return SlideEnd(code, "\n  ".join(lines), account)


def unreadable_line(settings: RunSettings, account: SlideAccount, result: Result | None = None) -> str:
    """What to say of a slide none of whose tiles could be read; with its result, also why the most of them."""
    why = ""
    if result is not None and len(result.failed):
        ((reason, _),) = Counter(result.failed["reason"].tolist()).most_common(1)
        why = f" (most often: {reason.decode(errors='replace')})"
    return (
        f"{settings.slide.path}: {account.warning}{why}; {settings.output.path} lists them: remove it, and run again "
        "once the slide can be read"
    )


def _summary(settings: RunSettings, result: Result, warning: str) -> str:
    tree, name, part = result.tree, settings.slide.path.name, settings.slide.part
    if part is not None:
        unreadable = f", {tree.n_failed} unreadable" if tree.n_failed else ""
        return f"{name}: {part.words}: {looked_at_in_words(result)}{unreadable}: {settings.output.path}"
    if tree.n_tiles == 0:
        where = " in the regions given" if settings.slide.regions.given else ""
        return f"{name}: {warning}{where}: the result is valid and empty: {settings.output.path}"
    failed = f", {tree.n_failed} unreadable" if tree.n_failed else ""
    said = f"; {warning}" if warning else ""
    if result.has_encoded:
        level = result.levels[0]
        said = f", {level.n_features} features a tile ({level.feature_type}){said}"
    if not result.model.classes:
        return f"{name}: {looked_at_in_words(result)}{failed}{said}: {settings.output.path}"
    saved = f"speedup {speedup_in_tiles(result.n_reference_tiles, tree.n_windows):.2f}"
    if result.prediction is not None:  # of a model that leaves nothing out
        saved = result.prediction.record.words
    return (
        f"{name}: {looked_at_in_words(result)}, {result.n_positive} positive{failed}, {saved}: "
        f"{settings.output.path}{said}"
    )
