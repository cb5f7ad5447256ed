"""Working seconds of a pyramidal and of a reference run of one slide: measured where there is one, else estimated.

Counted is the time in which the ranks read and classified tiles, summed over the ranks: it depends on the machine, not
on how many ranks there were or how long they waited for each other. Reading that went on behind a computation is not
counted, as it cost nothing. Results of resumed runs hold no such times, nor do older ones of runs of several slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.evaluation.pairing import SlideRuns
    from pyramidai_mpi.truth.labelled_tree import RunCost
    from pyramidai_mpi.truth.labels import LabelledResult

    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RunSeconds:
    """Working seconds of both runs of a slide.

    Attributes
    ----------
    pyramid, reference
        Seconds; NaN where they are not known.
    pyramid_estimated, reference_estimated
        Whether they are tile counts times the seconds that a tile of each level took in an exhaustive run.
    unknown
        Why one of them, and so the speedup, is not known; "" when it is.
    """

    pyramid: float
    reference: float
    pyramid_estimated: bool = False
    reference_estimated: bool = False
    unknown: str = ""

    @property
    def speedup(self) -> float:
        """Reference over pyramid."""
        return self.reference / self.pyramid if self.pyramid > 0 else float("nan")

    @property
    def how(self) -> str:
        """Which of them is estimated, in words."""
        if np.isnan(self.speedup):
            return ""
        if self.pyramid_estimated and self.reference_estimated:
            return "estimated"
        if self.pyramid_estimated or self.reference_estimated:
            return f"{'pyramid' if self.pyramid_estimated else 'reference'} estimated"
        return "measured"


NO_RUN_TO_TIME = RunSeconds(float("nan"), float("nan"), unknown="no pyramidal or exhaustive result")


def seconds_of(runs: SlideRuns, cost: RunCost) -> RunSeconds:
    """Seconds of the pyramidal run of `cost` and of the reference run."""
    rates = None if runs.exhaustive is None else _seconds_per_tile(runs.exhaustive)
    pyramid = _total(runs.pyramid)
    reference = _total(runs.reference)
    pyramid_estimated = bool(np.isnan(pyramid)) and rates is not None
    reference_estimated = bool(np.isnan(reference)) and rates is not None
    if rates is not None and pyramid_estimated:
        pyramid = float(rates @ np.array(cost.analysed, np.float64))
    if rates is not None and reference_estimated:
        reference = float(rates[0] * cost.n_reference_tiles)
    missing = [
        _why_unknown(kind, own, runs.exhaustive)
        for kind, own, seconds in (("pyramidal", runs.pyramid, pyramid), ("reference", runs.reference, reference))
        if np.isnan(seconds)
    ]
    unknown = "; ".join(dict.fromkeys(missing)) or ("" if pyramid > 0 else "the pyramidal run took none")
    return RunSeconds(pyramid, reference, pyramid_estimated, reference_estimated, unknown)


def _why_unknown(kind: str, own: LabelledResult | None, exhaustive: LabelledResult | None) -> str:
    there = [name for name, result in ((kind, own), ("exhaustive", exhaustive)) if result is not None]
    if not there:
        return f"no {kind} or exhaustive result"
    return f"the {' and the '.join(there)} result {'hold' if len(there) > 1 else 'holds'} no times, as after --resume"


def _total(result: LabelledResult | None) -> float:
    return float("nan") if result is None or result.level_seconds is None else float(result.level_seconds.sum())


def _seconds_per_tile(result: LabelledResult) -> Floats | None:
    """Of each level, float64 (N,); 0 for a level without tiles."""
    if result.level_seconds is None:
        return None
    tiles = np.array([len(level) for level in result.levels], np.float64)
    return np.asarray(np.divide(result.level_seconds, tiles, out=np.zeros(len(tiles)), where=tiles > 0))
