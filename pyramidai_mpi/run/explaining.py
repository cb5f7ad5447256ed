"""Explaining tiles of slides: pools of work, one after the other, and a file of explanations for each slide.

A map waits for its masks, which other ranks may have done, so there is a pool for masks and one for maps; where maps
have to repeat (``--until``), the pool that finds one wanting does its next masks as well. Each pool goes on from the
journals of the one before, as ``--resume`` does, so what was killed in whichever pool goes on from there. Methods by
gradients have one pool.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import ERROR_OF_EXIT_CODE, ExitCode, InputError, PyramidError
from pyramidai_mpi.process.stop import StopWish
from pyramidai_mpi.ranks.alike import agree_alike
from pyramidai_mpi.ranks.collectives import gather_messages, on_rank0, share_bytes
from pyramidai_mpi.run.assemble import with_work
from pyramidai_mpi.run.deciding import check_same, run_facts
from pyramidai_mpi.run.explaining_end import end_of, explanation_of, found_against, said_of_none
from pyramidai_mpi.run.explaining_gathered import Gathered
from pyramidai_mpi.run.explaining_levels import (
    SlideState,
    TileOpener,
    facts_of_explanation,
    settings_of,
    settings_text,
    tiles_hash,
)
from pyramidai_mpi.run.explaining_network import load_explained
from pyramidai_mpi.run.explaining_tiles import ChosenTiles, choose_tiles
from pyramidai_mpi.run.file_pool import FilePool
from pyramidai_mpi.run.output import lock_output
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.run.pool.workload import SlideOpener
from pyramidai_mpi.run.resume import begin_slide
from pyramidai_mpi.run.start import check_start, private
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.explanations.writer import place_explanation
from pyramidai_mpi.store.files.placing import make_folder
from pyramidai_mpi.store.results.result import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.explain import Explain
    from pyramidai_mpi.base.explain_order import ExplainOrder, TilesWanted
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.facts import Difference, Facts
    from pyramidai_mpi.run.file_pool import FileOutcome
    from pyramidai_mpi.run.pool.messages import SlideDescription
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.run.progress import RunProgress
    from pyramidai_mpi.run.resume import Journals
    from pyramidai_mpi.store.explanations.contents import Explanation
    from pyramidai_mpi.store.files.lock import OutputLock


def explain_slides(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    order: ExplainOrder,
    wanted: TilesWanted,
    results: Sequence[Path | None],
    report_slide: Callable[[FileOutcome], None] = lambda _outcome: None,
    stop: StopWish | None = None,
    show: Callable[[RunProgress], None] | None = None,
) -> tuple[FileOutcome, ...] | None:
    """Explain tiles of slides as one pool of work and write a file of explanations for each. Collective.

    Parameters
    ----------
    comm
        The ranks.
    each
        One run's settings a slide, the same on all ranks.
    order, wanted
        How, and which tiles.
    results
        The result of each slide, None where there is none; rank 0 reads them.
    report_slide
        Called on rank 0 for each slide as it ends.
    stop
        Says whether to stop early; None for never.
    show
        Called on rank 0 from time to time with how far a pool is; None for nobody.

    Returns
    -------
    tuple or None
        How each slide has ended, in the order given, on rank 0; None on the others.

    Raises
    ------
    StoppedError
        On all ranks, when any of them was asked to stop. Finished slides have their files, the others their journals.
    PyramidError
        The same on all ranks, for what concerns all slides.
    """
    stop = stop or StopWish()
    with private(comm) as own:
        check_start(own, each)
        if own.size > 1:
            said = [f"{field.name} {getattr(order, field.name)}" for field in fields(order)]
            agree_alike(own, {"explanations": [*said, f"tiles {wanted.in_words()}"]})
        package, explain, chosen = load_explained(
            own, each[0], order, lambda package: _choose(own, each, results, wanted, package, order)
        )
        explained = _Explained(package, explain, order, chosen)
        ended: dict[int, FileOutcome] = {}
        left, now = list(range(len(each))), each
        while left:
            made = explained.of(left, [now[slide] for slide in left])

            def report(outcome: FileOutcome) -> None:
                if outcome.line:  # else it goes on in the next pool
                    report_slide(outcome)

            outcomes = FilePool(own, made.each, made, report, stop, show).to_the_end()
            going = b""
            if outcomes is not None:
                found = zip(left, outcomes, strict=True)
                ended |= {slide: replace(one, settings=each[slide]) for slide, one in found if one.line}
                going = json.dumps([slide for slide in left if slide not in ended]).encode()
            left = json.loads(share_bytes(own, going if own.rank == 0 else None))
            explained.share_states(own)
            now = [settings.with_output(resume=True, overwrite=False) for settings in each]
        return tuple(ended[slide] for slide in range(len(each))) if own.rank == 0 else None


def explain_one(
    comm: MPI.Intracomm, settings: RunSettings, order: ExplainOrder, wanted: TilesWanted, result: Path | None
) -> None:
    """Explain tiles of a single slide. Collective; parameters as of `explain_slides`.

    Raises
    ------
    PyramidError
        On all ranks, for whatever keeps the slide from having its file, or all its tiles from being read.
    """
    on_rank0(comm, lambda: make_folder(settings.output.path.parent, "output"))
    outcomes = explain_slides(comm, [settings], order, wanted, [result])

    def check() -> None:
        outcome = outcomes[0] if outcomes else None
        if outcome is not None and not outcome.is_complete:
            raise ERROR_OF_EXIT_CODE[outcome.exit_code](outcome.line)

    on_rank0(comm, check)


def _choose(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    results: Sequence[Path | None],
    wanted: TilesWanted,
    package: ModelPackage,
    order: ExplainOrder,
) -> list[ChosenTiles | PyramidError]:
    """The tiles of every slide, or what keeps them from being known, as rank 0 finds them. Collective."""
    is_cohort = each[0].output.leave_finished

    def choose() -> list[bytes]:
        found = []
        for settings, result in zip(each, results, strict=True):
            try:
                found.append(b"+" + choose_tiles(wanted, order, package, result, settings.slide.path).to_bytes())
            except PyramidError as error:
                if not is_cohort:
                    raise
                found.append(b"-" + json.dumps([error.exit_code, str(error)]).encode())
        return found

    parts = on_rank0(comm, choose)
    lengths = b"" if parts is None else json.dumps([len(part) for part in parts]).encode()
    ends = np.cumsum(json.loads(share_bytes(comm, lengths if comm.rank == 0 else None)))
    data = share_bytes(comm, None if parts is None else b"".join(parts))
    chosen: list[ChosenTiles | PyramidError] = []
    for first, last in pairwise([0, *ends.tolist()]):
        part = data[first:last]
        if part[:1] == b"+":
            chosen.append(ChosenTiles.from_bytes(part[1:]))
        else:
            code, line = json.loads(part[1:])
            chosen.append(ERROR_OF_EXIT_CODE[code](line))
    return chosen


class _Explained:
    """All slides, from pool to pool."""

    def __init__(
        self, package: ModelPackage, explain: Explain, order: ExplainOrder, chosen: list[ChosenTiles | PyramidError]
    ) -> None:
        self.package, self.explain, self.chosen = package, explain, chosen
        self.settings = settings_of(explain, order)
        self.states: dict[int, SlideState] = {}
        self.found: dict[int, SlideState] = {}
        self.opener = TileOpener(package, explain)

    def of(self, slides: Sequence[int], each: Sequence[RunSettings]) -> _Pool:
        """What the next pool makes of these slides."""
        return _Pool(self, slides, each)

    def tiles_of(self, slide: int) -> ChosenTiles:
        """Of a slide; raises what keeps them from being known."""
        chosen = self.chosen[slide]
        if isinstance(chosen, PyramidError):
            raise chosen
        return chosen

    def share_states(self, comm: MPI.Intracomm) -> None:
        """Tell all ranks how far the slides of each have come in the last pool. Collective."""
        messages = [slide.to_bytes(8, "little") + state.to_bytes() for slide, state in self.found.items()]
        gathered = gather_messages(comm, messages)
        ends = np.cumsum([len(one) for one in gathered], dtype=np.int64)
        data = share_bytes(comm, b"".join(gathered) if comm.rank == 0 else None)
        lengths = np.frombuffer(share_bytes(comm, ends.tobytes() if comm.rank == 0 else None), np.int64).tolist()
        self.found.clear()
        self.states.clear()
        for first, last in pairwise([0, *lengths]):
            slide = int.from_bytes(data[first : first + 8], "little")
            self.states[slide] = SlideState.from_bytes(data[first + 8 : last])


class _Pool:
    """What one pool makes of slides; see `file_pool.Made`."""

    units = "pieces"

    def __init__(self, explained: _Explained, slides: Sequence[int], each: Sequence[RunSettings]) -> None:
        self._explained, self._slides, self.analysis = explained, slides, explained.explain
        # pieces take long, but for maps by gradients alone
        is_quick = explained.explain.perturbation is None and not explained.explain.faithfulness
        size = each[0].schedule.batch_size if is_quick else 1
        self.each = [replace(one, schedule=replace(one.schedule, batch_size=size)) for one in each]
        self._numbers = {settings.output.path: number for number, settings in enumerate(each)}
        opener = explained.opener
        self.opener = SlideOpener(
            lambda number: opener.describe(self.each[number].slide, *self._of(number)),
            lambda number, said: opener.follow(self.each[number].slide, said, *self._of(number)),
            lambda number: str(self.each[number].slide.path),
        )

    def _of(self, number: int) -> tuple[ChosenTiles, SlideState | None]:
        """Tiles and state of a slide of this pool."""
        slide = self._slides[number]
        return self._explained.tiles_of(slide), self._explained.states.get(slide)

    def compare(self, settings: RunSettings) -> tuple[list[Difference], ExitCode, Facts]:
        """See that the file there is the one that would be made."""
        path, opener, explain = settings.output.path, self._explained.opener, self._explained.explain
        explanation = read_explanation(path)
        chosen, _ = self._of(self._numbers[path])
        slide = opener.open(settings.slide, chosen)  # needs no trial: it is the file that was opened then
        slide.pyramid.reader.close()
        tiles = chosen.of(slide.pyramid.grid, explain.level, str(slide.source.path))
        facts = facts_of_explanation(slide, opener.package, explain, self._explained.settings, tiles)
        facts = tuple(fact for fact in facts if fact.name != "stain_map")  # the stain is estimated at work
        mixed = check_same(
            f"{path}: is of a run with",
            found_values(explanation),
            facts,
            accept_mixed=False,
            otherwise="name another folder, or replace it with --overwrite",
        )
        unread = said_of_none(settings, explanation)
        if unread:
            raise InputError(unread)
        return mixed, ExitCode.TILES_FAILED if len(explanation.failed) else ExitCode.OK, facts

    def check_target(self, settings: RunSettings) -> None:
        """See that the slide's tiles are known."""
        self._of(self._numbers[settings.output.path])

    def finisher(self, journals: Journals, locks: dict[int, OutputLock], ranks: npt.NDArray[np.void]) -> _Finisher:
        """See `file_pool.Finisher`."""
        return _Finisher(self._explained, self._slides, self.each, journals, locks, ranks)


def found_values(explanation: Explanation) -> dict[str, object]:
    """Values of facts by name that a file of explanations holds."""
    attributes = explanation.execution.attributes
    said = str(attributes.get("libraries", "")).split(", ")
    versions = {name: attributes[name] for name in said if name in attributes}
    names = ("patches_digest", "odd_levels", "model_yaml_sha256", "backend", "batch_shape", "cpu")
    return {
        **{name: attributes[name] for name in names if name in attributes},
        **versions,
        "software_version": explanation.software_version,
        "quickhash": explanation.slide.quickhash,
        "mpp": explanation.slide.mpp,
        "network_sha256": explanation.model.level_sha256[explanation.level],
        "method": explanation.method,
        "class": explanation.class_name,
        "level": explanation.level,
        "layer": explanation.layer,
        "settings": settings_text(explanation.settings),
        "tiles_sha256": tiles_hash(explanation.tiles.index),
    }


class _Finisher:
    """Begins the slides of a pool, and sees to what follows once all is done that could be."""

    def __init__(
        self,
        explained: _Explained,
        slides: Sequence[int],
        each: Sequence[RunSettings],
        journals: Journals,
        locks: dict[int, OutputLock],
        ranks: npt.NDArray[np.void],
    ) -> None:
        self._explained, self._slides, self._each = explained, slides, each
        self._journals, self._locks, self._ranks = journals, locks, ranks

    def begin(self, number: int, description: SlideDescription) -> Beginning:
        """Take a slide's place on the disk, and find where to go on from; raises as `finishing.Finisher.begin`."""
        settings, opener, slide_number = self._each[number], self._explained.opener, self._slides[number]
        state = self._explained.states.get(slide_number)
        chosen = self._explained.tiles_of(slide_number)
        slide, rule = opener.known(settings.slide, description, chosen, state)
        lock = self._locks.pop(number, None) or lock_output(settings, patient=False)
        try:
            explain = self._explained.explain
            facts = facts_of_explanation(slide, opener.package, explain, self._explained.settings, rule.tiles)
            return begin_slide(settings, slide, rule, explain, facts, self._journals, lock, is_told=state is None)
        except BaseException:
            lock.release()
            raise

    def write(self, number: int, collected: Collected) -> SlideEnd:
        """Write a slide's file, or where maps or masks follow, keep what they need; an end without a line then."""
        explained, opener, output = self._explained, self._explained.opener, collected.beginning.output
        try:
            gathered = Gathered(opener.explain, collected)
            state = gathered.next_state()
            if state is not None:
                explained.found[self._slides[number]] = state
                return SlideEnd(ExitCode.OK, "")
            settings = self._each[number]
            chosen = explained.tiles_of(self._slides[number])
            tiles = gathered.tiles()
            attributes = {
                **run_facts(settings, collected.beginning.slide, self._ranks),
                **output.attributes,
                **gathered.masks_in_words(),
                **found_against(chosen, tiles),
            }
            execution = Execution(attributes, with_work(self._ranks, collected.work), collected.all_batches())
            explanation = explanation_of(opener.package, opener.explain, explained.settings, gathered, tiles, execution)
            place_explanation(settings.output.path, explanation, overwrite=output.replaces, check=output.check_lock)
            output.remove_journal()
        finally:
            with suppress(PyramidError):
                collected.close()
        return end_of(settings, explanation, chosen)
