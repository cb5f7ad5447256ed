"""A second, tiny analysis: tissue share and mean colour of every tile. For tests of what runs analyses.

It classifies nothing and needs no network, and runs through the same pool, journals and recovery.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.base import Look, failed_records
from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.types import TILE_DTYPE, tile_keys
from pyramidai_mpi.process.stop import StopWish
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.opening import describe, follow, known_from
from pyramidai_mpi.run.output import lock_output
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.run.pool.pool import PoolJob, run_pool
from pyramidai_mpi.run.pool.workload import SlideOpener
from pyramidai_mpi.run.resume import begin_slide, read_journals
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.source import TileSource
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.run.pool.messages import SlideDescription
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.slides.source import Found

RECORD = np.dtype([*TILE_DTYPE.descr, ("tissue", "<f4"), ("colour", "<f4", (3,))])
"""A tile, its tissue share, and the mean of red, green and blue, 0..255; NaN where it could not be read."""


@dataclass(frozen=True)
class TileColours:
    """Looks at every tile with tissue, at every level; `n_levels` is the model's."""

    n_levels: int

    @property
    def record(self) -> np.dtype[np.void]:
        """`RECORD`."""
        return RECORD

    @property
    def task(self) -> np.dtype[np.void]:
        """Nothing is said of a tile beside its place."""
        return TILE_DTYPE

    @property
    def widths(self) -> tuple[int, ...]:
        """No features at any level."""
        return (0,) * self.n_levels

    def first(self, rule: TileRule) -> TileArray:
        """The roots."""
        return rule.roots()

    def closer(self, rule: TileRule, records: npt.NDArray[np.void]) -> TileArray:
        """All children."""
        return rule.children(records)

    def contradictions(self, records: npt.NDArray[np.void]) -> npt.NDArray[np.bool_]:
        """Shares that are none."""
        return np.asarray((records["tissue"] < 0) | (records["tissue"] > 1))

    def on(self, slide: OpenSlide, rule: TileRule) -> ColoursOfSlide:
        """Begin on a slide that this rank has opened."""
        return ColoursOfSlide(slide, rule)


class ColoursOfSlide:
    """Reads tiles of one slide and takes the mean of their pixels."""

    def __init__(self, slide: OpenSlide, rule: TileRule) -> None:
        self._rule = rule
        self._source = TileSource(slide.pyramid, "auto")

    def prepare(self, tiles: TileArray) -> list[Found | None]:
        """Nothing is read before its turn."""
        return [None] * len(tiles)

    def close(self) -> None:
        """Close the slide."""
        self._source.close()

    def look(self, tiles: TileArray, prepared: Sequence[Found | None] | None = None) -> Look:
        """Mean colours of a batch of tiles of one level."""
        level = int(tiles["level"][0])
        share = self._rule.tissue.share(level)
        records = np.zeros(len(tiles), RECORD)
        reasons = {}
        for position, tile in enumerate(tiles):
            found = self._source.read(level, int(tile["col"]), int(tile["row"]))
            is_unreadable = isinstance(found, UnreadableRegionError)
            if is_unreadable:
                reasons[position] = str(found)
            colour = np.full(3, np.nan) if is_unreadable else np.asarray(found).mean(axis=(0, 1))
            records[position] = (*tile.item(), share[tile["row"], tile["col"]], colour)
        return Look(records, self._rule.children(tiles), failed_records(tiles, reasons))


def run_colours(
    comm: MPI.Intracomm, each: Sequence[RunSettings], package: ModelPackage, stop: StopWish | None = None
) -> dict[int, SlideEnd]:
    """Colours of all tiles of all slides, an ``.npz`` file a slide with its records in canonical order. Collective.

    Parameters
    ----------
    each
        Settings of every slide's run, the same on all ranks.
    package
        Says the levels and their tiles' size; its networks are not used.
    stop
        Says whether to stop early.

    Returns
    -------
    dict
        On rank 0, how each slide has ended, by number.
    """
    analysis = TileColours(package.n_levels)
    journals = read_journals(comm, each, analysis)
    ends: dict[int, SlideEnd] = {}

    def begin(number: int, description: SlideDescription) -> Beginning:
        slide, rule = known_from(each[number].slide, package, description)
        facts = (Fact("quickhash", "slide", slide.quickhash, Kind.SLIDE),)
        lock = lock_output(each[number], patient=True)
        return begin_slide(each[number], slide, rule, analysis, facts, journals, lock)

    def write(number: int, collected: Collected) -> SlideEnd:
        records = collected.records.rows
        output = each[number].output.path
        try:
            with placed(output, overwrite=False, inputs=[]) as temporary:
                with temporary.open("wb") as file:
                    np.savez(file, records=records[np.argsort(tile_keys(records))])
                collected.beginning.output.check_lock()
            collected.beginning.output.remove_journal()
        finally:
            collected.close()
        return SlideEnd(ExitCode.OK, f"{len(records)} tiles, {collected.n_restored} of them from the journal")

    opener = SlideOpener(
        lambda number: describe(each[number].slide, package),
        lambda number, description: follow(each[number].slide, package, description),
    )
    try:
        run_pool(
            comm,
            PoolJob(analysis, opener, begin, write),
            np.arange(len(each)),
            journals,
            each[0].schedule,
            stop or StopWish(),
            report_end=ends.__setitem__,
        )
        if comm.rank == 0:
            journals.remove_shared()
    finally:
        journals.close()
    return ends
