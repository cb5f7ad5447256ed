"""Slides as work for the scheduler: opening one is a task, and its children are the roots."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.base.types import TILE_DTYPE, Mode
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.pyramid.dealing import by_root
from pyramidai_mpi.pyramid.rule import zooms_in
from pyramidai_mpi.run.opening import analyser_of, open_job, open_job_as_known, rule_of, tissue_of
from pyramidai_mpi.run.pool.messages import Kind, Passport, Verdict, encode_features
from pyramidai_mpi.run.stain import estimate_stain
from pyramidai_mpi.slides.readers.trial import try_opening

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.analyses.classify import Analyser
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.models.stain.engine import StainEngine
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.opening import Job
    from pyramidai_mpi.run.pool.post import Post
    from pyramidai_mpi.sched import Progress
    from pyramidai_mpi.slides.source import Found

_LEVELS = 16
_OPENING = _LEVELS - 1
_MOST_OPEN_SLIDES = 3
"""Slides that a rank keeps open: a handle holds a cache of decoded tiles of up to 32 MB."""

COHORT_DTYPE = np.dtype([("group", "<u4"), ("col", "<u4"), ("row", "<u4")])
"""A tile of one of many slides. ``group`` is 16 * slide + level, with level 15 for the opening of the slide."""


def opening_tasks(slides: npt.NDArray[np.int64]) -> npt.NDArray[np.void]:
    """One task for each of these slides: open it."""
    tasks = np.zeros(len(slides), COHORT_DTYPE)
    tasks["group"] = slides * _LEVELS + _OPENING
    return tasks


def tiles_of(tasks: npt.NDArray[np.void], level: int) -> TileArray:
    """The tiles of tasks that share one slide and level."""
    tiles = np.empty(len(tasks), TILE_DTYPE)
    tiles["level"], tiles["col"], tiles["row"] = level, tasks["col"], tasks["row"]
    return tiles


def tasks_of(slide: int, tiles: TileArray) -> npt.NDArray[np.void]:
    """Tasks of tiles of one slide."""
    tasks = np.empty(len(tiles), COHORT_DTYPE)
    tasks["group"] = np.uint32(slide * _LEVELS) + tiles["level"]
    tasks["col"], tasks["row"] = tiles["col"], tiles["row"]
    return tasks


@dataclass(frozen=True)
class _Open:
    """A slide that this rank has open."""

    job: Job
    rule: TileRule
    analyser: Analyser


@dataclass
class CohortWorkload:
    """One rank's share of many slides.

    Attributes
    ----------
    each
        Settings of every slide's run.
    package, engines, stain_engine
        The model, and what normalises stain for it, None for nothing.
    post
        Takes predictions to the slides' owners.
    batch_size
        Most tiles in one call.
    report
        Called on rank 0 with the progress of the whole job.
    carry
        Called on the main thread again and again.
    """

    each: Sequence[RunSettings]
    package: ModelPackage
    engines: Sequence[Engine]
    stain_engine: StainEngine | None
    post: Post
    batch_size: int
    report: Callable[[Progress], None] | None
    carry: Callable[[], None]

    def __post_init__(self) -> None:
        self.dtype = COHORT_DTYPE
        self.batch_by = "group"
        self._open: OrderedDict[int, _Open] = OrderedDict()

    def prepare(self, tasks: npt.NDArray[np.void]) -> list[Found | None]:
        """Begin to read tiles of one level of one slide, if it is open here."""
        slide, level = divmod(int(tasks["group"][0]), _LEVELS)
        opened = self._open.get(slide) if level != _OPENING else None
        return [None] * len(tasks) if opened is None else opened.analyser.prepare(tiles_of(tasks, level))

    def expand(self, tasks: npt.NDArray[np.void], prepared: list[Found | None] | None = None) -> npt.NDArray[np.void]:
        """Open a slide, or analyse tiles of one level of one slide; return what is to be looked at next."""
        slide, level = divmod(int(tasks["group"][0]), _LEVELS)
        if level == _OPENING:
            return self._open_slide(slide)
        try:
            opened = self._slide(slide)
        except PyramidError as error:  # ends this slide, not the others
            self.post.to_owner(Kind.REFUSED, slide, Verdict(error.exit_code, str(error)).to_bytes())
            return np.empty(0, COHORT_DTYPE)
        tiles = tiles_of(tasks, level)
        predictions, failed = opened.analyser.analyse(tiles, prepared)
        if len(failed):
            self.post.to_owner(Kind.UNREADABLE, slide, failed.tobytes())
        self.post.to_owner(Kind.PREDICTIONS, slide, predictions.tobytes())
        mode = self.each[slide].mode
        if mode is Mode.REFERENCE:
            return np.empty(0, COHORT_DTYPE)
        return tasks_of(slide, opened.rule.children(tiles[zooms_in(predictions, mode)]))

    def on_progress(self, progress: Progress) -> None:
        """Pass the job's progress on."""
        if self.report is not None:
            self.report(progress)

    def on_poll(self) -> None:
        """Carry messages about slides."""
        self.carry()

    def close(self) -> None:
        """Close all slides."""
        for opened in self._open.values():
            opened.analyser.close()
        self._open.clear()

    def _open_slide(self, slide: int) -> npt.NDArray[np.void]:
        try:
            with try_opening(self.each[slide].slide.path, self.each[slide].slide.reader) as trial:
                trial.check()
            job = open_job(self.each[slide], self.package)
            mask, source = tissue_of(job)
            job = estimate_stain(job, rule_of(job, mask))
            passport = Passport(job.pyramid.reader.info, job.quickhash, job.mpp, host_name(), mask, job.stain, source)
        except PyramidError as error:
            self.post.to_owner(Kind.REFUSED, slide, Verdict(error.exit_code, str(error)).to_bytes())
            return np.empty(0, COHORT_DTYPE)
        self.post.to_owner(Kind.OPENED, slide, passport.to_bytes())
        self._keep(slide, job, passport)
        return tasks_of(slide, by_root(self.post.first_tiles(slide), job.pyramid.grid)[0])

    def _slide(self, slide: int) -> _Open:
        if slide in self._open:
            self._open.move_to_end(slide)
            return self._open[slide]
        passport = self.post.passport(slide)
        job = open_job_as_known(self.each[slide], self.package, passport.quickhash, passport.host)
        self.post.forget_passport(slide)
        return self._keep(slide, job, passport)

    def _keep(self, slide: int, job: Job, passport: Passport) -> _Open:
        job = replace(job, stain=passport.stain)
        analyser = analyser_of(job, self.engines, self.stain_engine)
        if self.each[slide].model.features:
            analyser.keep_features = lambda level, rows: self.post.to_owner(
                Kind.FEATURES, slide, encode_features(level, rows)
            )
        opened = _Open(job, rule_of(job, passport.mask, passport.source), analyser)
        self._open[slide] = opened
        while len(self._open) > _MOST_OPEN_SLIDES:
            _, oldest = self._open.popitem(last=False)
            oldest.analyser.close()
        return opened
