"""Whether the promise of ``tune --guarantee`` holds: random splits of the cohort of geometry.

    python -m bench.paper.guarantee [--outlines FILE] [--alpha 0.05 0.1 0.2] [--paths 25] [--splits 40] [--json FILE]

For each of the paths a third of the slides, drawn at random, draws the path; the others are split at random into as
many that calibrate as that are new, again and again. The promise is on the mean miss rate of new slides over all of
this. Slides of one cohort in random order are exchangeable, whatever is wrong with the cohort as a model. Its Monte
Carlo error is taken over paths, whose splits share slides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.paper.geometry_cohort import TUMOR_FREE, draw_cohort, has_tumor, lay_out
from bench.paper.lesions import load_outlines
from bench.paper.slide_geometry import labelled_from_below
from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.conformal import draw_path, first_safe_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.truth.labelled_tree import LabelledTree

L0_THRESHOLD = 0.5


@dataclass(frozen=True)
class Check:
    """How the promise was kept.

    Attributes
    ----------
    alpha
        The promised bound.
    splits
        How many.
    miss_rate, error
        Mean over splits of the new slides' mean miss rate, and the standard error of that mean.
    exceeding
        Share of the splits in which the new slides' mean was above alpha: the promise is on the mean, not on these.
    speedup
        In tiles, mean over the slides that did not draw the path, at the median step.
    """

    alpha: float
    splits: int
    miss_rate: float
    error: float
    exceeding: float
    speedup: float

    @property
    def holds(self) -> bool:
        """Whether the mean is at most alpha, within two standard errors."""
        return self.miss_rate <= self.alpha + 2 * self.error


def check_guarantee(trees: Sequence[LabelledTree], alpha: float, *, paths: int, splits: int, seed: int = 0) -> Check:
    """Draw paths, split, calibrate, and see what new slides miss."""
    rng = np.random.default_rng(seed)
    missed = np.empty((paths, splits))
    speedups = []
    for p in range(paths):
        order = rng.permutation(len(trees)).tolist()
        third = len(trees) // 3
        path = draw_path(Cohort(tuple(trees[k] for k in order[:third]), L0_THRESHOLD), alpha)
        others = Cohort(tuple(trees[k] for k in order[third:]), L0_THRESHOLD)
        losses = 1 - np.stack([path.retention(tree, L0_THRESHOLD) for tree in others.trees])
        steps = []
        for s in range(splits):
            calibrating, new = np.array_split(rng.permutation(len(losses)), 2)
            step, _ = first_safe_step(losses[calibrating], alpha)
            missed[p, s] = losses[new, step].mean()
            steps.append(step)
        middle = path.thresholds[int(np.median(steps))]
        speedups.append(others.measure((L0_THRESHOLD, *map(float, middle))).speedup)
    by_path = missed.mean(axis=1)
    return Check(
        alpha,
        missed.size,
        float(missed.mean()),
        float(by_path.std(ddof=1) / np.sqrt(paths)),
        float((missed > alpha).mean()),
        float(np.mean(speedups)),
    )


def main() -> None:
    """Check slides with tumour alone, and all slides, on both kinds of geometry."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--free", type=int, default=TUMOR_FREE, help="slides without tumour")
    parser.add_argument("--alpha", type=float, nargs="+", default=[0.05, 0.1, 0.2])
    parser.add_argument("--paths", type=int, default=25)
    parser.add_argument("--splits", type=int, default=40, help="of each path")
    options = parser.parse_args()
    geometries = lay_out(load_outlines(options.outlines), options.free)
    cohorts = {
        "by share": draw_cohort(geometries).slides,
        "from below": draw_cohort([labelled_from_below(slide) for slide in geometries], full_at=None).slides,
    }
    figures = []
    for name, trees in cohorts.items():
        for kind, slides in (("with tumour", [tree for tree in trees if has_tumor(tree)]), ("all", trees)):
            for alpha in options.alpha:
                found = check_guarantee(slides, alpha, paths=options.paths, splits=options.splits)
                setting = {"cohort": name, "slides": kind, "alpha": alpha, "splits": found.splits}
                setting |= {"error": round(found.error, 4), "holds": found.holds}
                setting |= {"splits above alpha": round(found.exceeding, 3), "speedup": round(found.speedup, 2)}
                figures.append(Figure("mean miss rate of new slides", found.miss_rate, "share", setting))
    report(figures, options.json)


if __name__ == "__main__":
    main()
