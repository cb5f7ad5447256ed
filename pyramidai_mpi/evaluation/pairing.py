"""Results of the same slide, put together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.store.results.reader import read_origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.truth.labelled_tree import LabelledLevel
    from pyramidai_mpi.truth.labels import LabelledResult


@dataclass(frozen=True)
class SlideRuns:
    """The results of one slide, at most one of each mode and at least one.

    Attributes
    ----------
    pyramid, reference, exhaustive
        The result of the run of each mode; None where there is none.
    """

    pyramid: LabelledResult | None = None
    reference: LabelledResult | None = None
    exhaustive: LabelledResult | None = None

    @property
    def widest(self) -> LabelledResult:
        """The one that looked at most tiles."""
        widest = self.exhaustive or self.reference or self.pyramid
        assert widest is not None
        return widest

    @property
    def decided_by(self) -> LabelledResult:
        """The one whose thresholds are judged."""
        return self.pyramid or self.widest

    @property
    def full_level0(self) -> LabelledLevel | None:
        """All tiles of a reference run, where a run looked at them."""
        full = self.exhaustive or self.reference
        return None if full is None else full.levels[0]

    def pyramidal_levels(self, thresholds: Sequence[float] | None) -> tuple[LabelledLevel, ...] | None:
        """Tiles of the pyramidal run, level 0 first: its own, or those that an exhaustive one says it would have."""
        if self.pyramid is not None:
            return self.pyramid.levels
        if self.exhaustive is None:
            return None
        reached = self.exhaustive.tree().reached(thresholds or self.exhaustive.thresholds)
        return tuple(
            replace(
                level,
                index=level.index[mask],
                score=level.score[mask],
                positive=level.positive[mask],
                parent=level.parent[mask],
                decision=level.decision[mask],
            )
            for level, mask in zip(self.exhaustive.levels, reached, strict=True)
        )

    def changed_thresholds(self, changes: Mapping[int, float]) -> tuple[float, ...] | None:
        """Thresholds of a run to derive from the exhaustive result, level 0 first; None when none is changed.

        Raises
        ------
        UsageError
            When there is no exhaustive result, a pyramidal one that was run at its own, or no such level.
        """
        if not changes:
            return None
        if self.exhaustive is None or self.pyramid is not None:
            raise UsageError(
                f"--threshold: {self.decided_by.path} is the result of a {self.decided_by.mode} run; other thresholds "
                "than a run's own can be judged on exhaustive results alone"
            )
        own = self.exhaustive.thresholds
        if unknown := set(changes) - set(range(len(own))):
            raise UsageError(f"--threshold {min(unknown)}=...: {self.exhaustive.path} has levels 0 to {len(own) - 1}")
        return tuple(changes.get(level, value) for level, value in enumerate(own))

    def sources(self, thresholds: Sequence[float] | None) -> str:
        """Where the figures come from, in words."""
        found = [str(one.mode) for one in (self.pyramid, self.reference, self.exhaustive) if one is not None]
        if self.pyramid is None and self.exhaustive is not None:
            found.append("pyramid derived at the thresholds given" if thresholds else "pyramid derived")
        return ", ".join(found)


def group_results(paths: Sequence[Path]) -> tuple[tuple[Path, ...], ...]:
    """Put the files of the same slide together, by its quick hash, in order of appearance.

    Their tiles are not read, so that a large cohort can be gone through slide by slide.

    Raises
    ------
    UsageError
        When two results of one slide are of the same mode.
    InputError
        When a file cannot be read, or they are not all of one model.
    """
    by_slide: dict[str, dict[str, Path]] = {}
    first: tuple[str, ...] = ()
    for path in paths:
        origin = read_origin(path)
        first = first or origin.level_sha256
        if origin.level_sha256 != first:
            raise InputError(f"{path}: is of another model than {paths[0]}; evaluate one model at a time")
        modes = by_slide.setdefault(origin.quickhash, {})
        if other := modes.get(origin.mode):
            raise UsageError(f"{other} and {path} are both {origin.mode} runs of one slide; give one of them")
        modes[origin.mode] = path
    return tuple(tuple(modes.values()) for modes in by_slide.values())


def runs_of(results: Sequence[LabelledResult]) -> SlideRuns:
    """Put the results of one slide together.

    Parameters
    ----------
    results
        A group of `group_results`.

    Raises
    ------
    InputError
        When they cut the slide into other tiles.
    """
    runs = SlideRuns(**{str(one.mode): one for one in results})
    for one in results:
        if one.rule.grid != runs.widest.rule.grid:
            raise InputError(f"{one.path}: has other tiles than {runs.widest.path}; run both at the same --mpp")
    return runs
