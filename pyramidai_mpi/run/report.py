"""What can be said of a run: how its slides ended, and how well the work was shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.pyramid.metrics import speedup_in_tiles, tiles_against_reference

if TYPE_CHECKING:
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.store.results.result import Result
    from pyramidai_mpi.store.results.summary import SlideAccount


@dataclass(frozen=True)
class SlideOutcome:
    """How one slide ended; fields as in `messages.SlideEnd`."""

    settings: RunSettings
    exit_code: ExitCode
    line: str
    account: SlideAccount | None = None
    was_finished: bool = False

    @property
    def warning(self) -> str:
        """What of the slide its result did not look at, see `pyramid.looked_at`; empty for nothing."""
        return "" if self.account is None else self.account.warning

    @property
    def is_complete(self) -> bool:
        """Whether it has its result, if with unreadable tiles: not where no tile could be read."""
        return self.exit_code in {ExitCode.OK, ExitCode.TILES_FAILED}


@dataclass(frozen=True)
class RunReport:
    """What rank 0 can say of a finished run.

    Attributes
    ----------
    outcomes
        One a slide, in the order given.
    wall_s
        Seconds from start to the last file in its place.
    balance
        Busiest rank's working time over the mean, all slides together.
    only_result
        The result as it was written, of a run of one slide; None of several, or where an earlier start had finished it.
    """

    outcomes: tuple[SlideOutcome, ...]
    wall_s: float
    balance: float = 1.0
    only_result: Result | None = None

    @property
    def warnings(self) -> tuple[str, ...]:
        """A line for each slide of which nothing, or nothing at level 0, was looked at."""
        return tuple(f"{one.settings.slide.path.name}: {one.warning}" for one in self.outcomes if one.warning)

    @property
    def exit_code(self) -> ExitCode:
        """4 when slides failed, 3 when tiles did, else 0."""
        if not all(outcome.is_complete for outcome in self.outcomes):
            return ExitCode.SLIDES_FAILED
        return max(outcome.exit_code for outcome in self.outcomes)

    @property
    def result(self) -> Result:
        """The result of the only slide."""
        assert self.only_result is not None
        return self.only_result

    @property
    def speedup(self) -> float:
        """Tiles of the reference run of the only slide over tiles of this run."""
        return speedup_in_tiles(self.result.n_reference_tiles, self.result.tree.n_windows)

    @property
    def against_reference(self) -> tuple[float, str]:
        """The same as people say it, see `tiles_against_reference`."""
        return tiles_against_reference(self.result.n_reference_tiles, self.result.tree.n_windows)
