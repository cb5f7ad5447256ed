"""Extracting patches: slides as one pool of work, and a file of patches for each."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext, suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.analyses.extract import Extract
from pyramidai_mpi.base.errors import ExitCode, PyramidError
from pyramidai_mpi.base.hosts import IF_APART
from pyramidai_mpi.base.odd_levels import odd_levels_of
from pyramidai_mpi.base.types import index_of
from pyramidai_mpi.process.stop import StopWish
from pyramidai_mpi.ranks.alike import agree_alike
from pyramidai_mpi.ranks.collectives import on_all
from pyramidai_mpi.run.assemble import with_work
from pyramidai_mpi.run.cell_marks import files_of_cells
from pyramidai_mpi.run.cells import (
    describe_cells,
    facts_of_cells,
    follow_cells,
    known_cells,
    obstacle_to_keeping,
    open_cells,
    values_of_cells,
    with_files,
)
from pyramidai_mpi.run.deciding import check_same, run_facts
from pyramidai_mpi.run.extraction_end import end_of
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.file_pool import FileOutcome, FilePool
from pyramidai_mpi.run.output import lock_output, source_of
from pyramidai_mpi.run.parts import part_record
from pyramidai_mpi.run.patch_content import content_of
from pyramidai_mpi.run.pool.workload import SlideOpener
from pyramidai_mpi.run.resume import begin_slide
from pyramidai_mpi.run.sent_files import SentFiles
from pyramidai_mpi.run.start import check_start, content_words, private
from pyramidai_mpi.slides.identity import slide_quickhash
from pyramidai_mpi.store.patches.origins import Origins
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.writer import place_patches
from pyramidai_mpi.store.results.result import Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.patch_order import PatchOrder
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.run.facts import Difference, Facts
    from pyramidai_mpi.run.pool.messages import SlideDescription, SlideEnd
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.run.resume import Journals
    from pyramidai_mpi.store.files.lock import OutputLock
    from pyramidai_mpi.store.results.result import PartRecord

log = logging.getLogger(__name__)

_MOST_UNKNOWN_LISTED = 5


def extract_patches(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    order: PatchOrder,
    report_slide: Callable[[FileOutcome], None] = lambda _outcome: None,
    stop: StopWish | None = None,
    sent: SentFiles | None = None,
) -> tuple[FileOutcome, ...] | None:
    """Extract patches of slides as one pool of work and write a file for each. Collective.

    Parameters
    ----------
    comm
        The ranks.
    each
        One run's settings a slide, the same on all ranks; their model is not used.
    order
        Which patches.
    report_slide
        Called on rank 0 for each slide as it ends.
    stop
        Says whether to stop early; None for never.
    sent
        As of `run.run_slides`.

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
    with private(comm) as own, nullcontext(sent) if sent is not None else SentFiles(each[0].hosts) as files:
        ranks = check_start(own, each, IF_APART)
        if own.size > 1:
            agree_alike(own, _facts_of_start(order))
        origins = on_all(own, lambda: Origins() if order.origins is None else Origins.read(order.origins))
        if own.rank == 0:
            _warn_of_unknown(order, origins, each)
        seen = files.with_copies(each)
        made = _Patches(seen, order, origins)

        def bring(slides: Sequence[int]) -> None:
            made.each = files.with_slides(own, each, slides)

        return FilePool(own, seen, made, report_slide, stop or StopWish(), ranks=ranks, bring=bring).to_the_end()


def _facts_of_start(order: PatchOrder) -> dict[str, list[str]]:
    """What has to be alike, in words; of files, what is in them."""
    parts = (order, order.limits, order.labels, order.places)
    named = [(field.name, getattr(part, field.name)) for part in parts for field in fields(part)]
    own = [f"{name} {value}" for name, value in named if not (isinstance(value, Path) or is_dataclass(value))]
    return {"patches": own, **{option: content_words(path) for option, path in order.files().items()}}


def _warn_of_unknown(order: PatchOrder, origins: Origins, each: Sequence[RunSettings]) -> None:
    unknown = origins.unknown(settings.slide.path.name for settings in each)
    if unknown:
        some = ", ".join(unknown[:_MOST_UNKNOWN_LISTED]) + (", ..." if len(unknown) > _MOST_UNKNOWN_LISTED else "")
        log.warning(
            "%s: does not name %d of %d slides, whose origin stays unknown: %s",
            order.origins,
            len(unknown),
            len(each),
            some,
        )


class _Patches:
    """What an extraction makes of slides."""

    def __init__(self, each: Sequence[RunSettings], order: PatchOrder, origins: Origins) -> None:
        self.analysis = Extract(order)
        self.units = "patches"
        self.each = each
        self.opener = SlideOpener(
            lambda slide: describe_cells(self.each[slide].slide, order),
            lambda slide, description: follow_cells(self.each[slide].slide, order, description),
            lambda slide: str(self.each[slide].slide.path),
        )
        self._order, self._origins = order, origins

    def compare(self, settings: RunSettings) -> tuple[list[Difference], ExitCode, Facts]:
        """See that the file there holds what this extraction would make."""
        with PatchFile(settings.output.path, may_be_part=settings.slide.part is not None) as file:
            header, said = file.header, odd_levels_of(file.execution().attributes)
            # stored tiles may have been asked for of a slide whose tiles cannot be kept
            may_be_forced = self._order.pixels == "stored" and header.settings.pixels == "raw"
            index = index_of(file.patches) if may_be_forced else None
        slide_hash = slide_quickhash(settings.slide.path)
        facts: tuple[Fact, ...] = (Fact("quickhash", "slide", slide_hash, Kind.SLIDE),)
        found: dict[str, object] = {"quickhash": header.slide.quickhash}
        if slide_hash == header.slide.quickhash:
            slide = open_cells(settings.slide, self._order)  # needs no trial: it is the file that was opened then
            if index is not None:
                slide = replace(slide, raw_because=obstacle_to_keeping(slide, self._order, index))
            slide.pyramid.reader.close()
            source = with_files(source_of(settings), files_of_cells(settings.slide.path, self._order))
            facts = facts_of_cells(slide, self._order, source, None, self._origins.of(settings.slide.path.name))
            found |= values_of_cells(header.settings, header.slide.origin) | {"mpp": header.slide.mpp}
            found["odd_levels"] = said
            found["part"] = "" if header.part is None else str(header.part.part)
        mixed = check_same(
            f"{settings.output.path}: holds patches taken with",
            found,
            facts,
            accept_mixed=False,
            otherwise="name another folder, or replace it with --overwrite",
        )
        return mixed, ExitCode.TILES_FAILED if header.n_failed else ExitCode.OK, facts

    def check_target(self, settings: RunSettings) -> None:
        """There is no other file than the one of patches."""

    def finisher(self, journals: Journals, locks: dict[int, OutputLock], ranks: npt.NDArray[np.void]) -> _Finisher:
        """See `file_pool.Finisher`."""
        return _Finisher(self.each, self.analysis, self._origins, journals, locks, ranks)


class _Finisher:
    """Begins and finishes the slides of an extraction, as `finishing.Finisher` those of a run that classifies."""

    def __init__(
        self,
        each: Sequence[RunSettings],
        analysis: Extract,
        origins: Origins,
        journals: Journals,
        locks: dict[int, OutputLock],
        ranks: npt.NDArray[np.void],
    ) -> None:
        self._each, self._analysis, self._journals, self._locks, self._ranks = each, analysis, journals, locks, ranks
        self._origins = origins
        self._descriptions: dict[int, SlideDescription] = {}
        self._parts: dict[int, PartRecord | None] = {}

    def begin(self, number: int, description: SlideDescription) -> Beginning:
        """Take a slide's place on the disk, and find where to go on from; raises as `Finisher.begin`."""
        settings, order = self._each[number], self._analysis.order
        slide, rule = known_cells(settings.slide, order, description)
        lock = self._locks.pop(number, None) or lock_output(settings, patient=False)
        try:
            self._descriptions[number] = description
            if slide.raw_because:
                log.warning(
                    "%s: its stored tiles cannot be kept as they are: %s; its patches are kept decoded (--pixels raw)",
                    settings.slide.path.name,
                    slide.raw_because,
                )
            origin = self._origins.of(settings.slide.path.name)
            facts = facts_of_cells(slide, order, description.source, description.mask, origin)
            self._parts[number] = part_record(settings.slide.part, facts)
            return begin_slide(settings, slide, rule, self._analysis, facts, self._journals, lock)
        except BaseException:
            lock.release()
            raise

    def write(self, number: int, collected: Collected) -> SlideEnd:
        """Write the patches of a complete slide, by this rank alone; raises whatever keeps them from being written."""
        settings, order = self._each[number], self._analysis.order
        output = collected.beginning.output
        description = self._descriptions.pop(number)
        try:
            records = collected.records.rows
            copies_tiles = order.pixels == "stored" and not description.raw_because
            slide, rule = (follow_cells if copies_tiles else known_cells)(settings.slide, order, description)
            try:
                origin = self._origins.of(settings.slide.path.name)
                read = None if collected.kept is None else collected.kept.read
                content = content_of(slide, rule, order, records, collected.failed.rows, read, origin)
                content = replace(content, part=self._parts.pop(number))
                facts = {
                    **run_facts(settings, slide, self._ranks),
                    **output.attributes,
                    **rule.tissue.source.facts(),
                    "patches_from_journal": collected.n_restored,
                    "cohort_slide_s": time.perf_counter() - collected.started,
                    **({"raw_because": slide.raw_because} if slide.raw_because else {}),
                }
                execution = Execution(facts, with_work(self._ranks, collected.work), collected.all_batches())
                place_patches(
                    settings.output.path, content, execution, overwrite=output.replaces, check=output.check_lock
                )
            finally:
                slide.pyramid.reader.close()
            output.remove_journal()
        finally:
            with suppress(PyramidError):
                collected.close()
        return end_of(settings, rule, content)
