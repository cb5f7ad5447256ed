"""An evaluation as pictures: tile ROC, FROC, and what each slide keeps and gains. PNG and SVG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.figures import Figure, rc_context
from pyramidai_mpi.evaluation.froc import FALSE_POSITIVES_A_SLIDE
from pyramidai_mpi.evaluation.roc import roc_curve
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from matplotlib.axes import Axes

    from pyramidai_mpi.evaluation.cohort import CohortEvaluation, Froc
    from pyramidai_mpi.evaluation.dense import DenseCohort

NAMES = tuple(f"{name}.{ending}" for name in ("roc", "froc", "gain") for ending in ("png", "svg"))
"""Files that are written."""

DENSE_NAMES = ("froc.png", "froc.svg")
"""Files that are written of maps of windows."""

_MOST_POINTS = 2000
_MOST_RATE = 2 * FALSE_POSITIVES_A_SLIDE[-1]


def write_plots(cohort: CohortEvaluation, folder: Path, *, overwrite: bool = False) -> None:
    """Draw an evaluation.

    Raises
    ------
    OutputExistsError, StorageError
        When a file is in the way or cannot be written.
    """
    runs = (("pyramidal run", cohort.pyramid_froc), ("reference run", cohort.reference_froc))
    for name, draw in (
        ("roc", lambda axes: _draw_roc(axes, cohort)),
        ("froc", lambda axes: _draw_froc(axes, runs)),
        ("gain", lambda axes: _draw_gain(axes, cohort)),
    ):
        _write(name, draw, folder, overwrite=overwrite)


def write_dense_plots(cohort: DenseCohort, folder: Path, *, overwrite: bool = False) -> None:
    """Draw the FROC of every kind of map of windows: `DENSE_NAMES`.

    Raises
    ------
    OutputExistsError, StorageError
        When a file is in the way or cannot be written.
    """
    curves = [(one.name, one.froc) for one in cohort.maps]
    _write("froc", lambda axes: _draw_froc(axes, curves), folder, overwrite=overwrite)


def _write(name: str, draw: Callable[[Axes], None], folder: Path, *, overwrite: bool) -> None:
    figure = Figure(figsize=(5.2, 4.2), layout="constrained")
    draw(figure.subplots())
    for ending in ("png", "svg"):
        # no date and no random names: equal figures are equal files
        with (
            placed(folder / f"{name}.{ending}", overwrite=overwrite) as temporary,
            rc_context({"svg.hashsalt": name}),
        ):
            figure.savefig(
                temporary,
                format=ending,
                dpi=150,
                metadata={"Date": None} if ending == "svg" else {"Software": None},
            )


def _draw_roc(axes: Axes, cohort: CohortEvaluation) -> None:
    for one in cohort.roc:
        if not one.n_positive or not one.n_negative:
            continue
        tiles = [slide.scored[one.level] for slide in cohort.slides]
        score = np.concatenate([level.score for level in tiles])
        positive = np.concatenate([level.positive for level in tiles])
        readable = ~np.isnan(score)
        curve = roc_curve(score[readable], positive[readable])
        shown = np.unique(np.linspace(0, len(curve.threshold) - 1, _MOST_POINTS).astype(int))
        axes.plot(
            curve.false_positive_rate[shown],
            curve.true_positive_rate[shown],
            label=f"level {one.level}: {one.pooled.value:.4f}",
        )
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title="Tile ROC")
    _legend(axes)


def _draw_froc(axes: Axes, curves: Iterable[tuple[str, Froc | None]]) -> None:
    for name, froc in curves:
        if froc is not None and froc.n_lesions:
            # past its last point the curve goes on level, as it is read off for the score
            false_positives = np.append(froc.curve.false_positives, max(froc.curve.false_positives[-1], _MOST_RATE))
            sensitivity = np.append(froc.curve.sensitivity, froc.curve.sensitivity[-1])
            axes.plot(false_positives, sensitivity, label=f"{name}: {froc.score.value:.3f}")
    axes.set_xscale("symlog", base=2, linthresh=FALSE_POSITIVES_A_SLIDE[0])
    axes.set_xticks(FALSE_POSITIVES_A_SLIDE, [f"{rate:g}" for rate in FALSE_POSITIVES_A_SLIDE])
    axes.set(
        xlim=(0, _MOST_RATE),
        ylim=(0, 1.02),
        xlabel="false positives a slide",
        ylabel="lesions found",
        title="Lesion FROC",
    )
    _legend(axes)


def _draw_gain(axes: Axes, cohort: CohortEvaluation) -> None:
    shown = [one.cost for one in cohort.slides if one.cost is not None and not one.retention_unknown]
    others = [one.cost for one in cohort.slides if one.cost is not None and one.retention_unknown]
    axes.scatter([one.speedup for one in shown], [one.retention for one in shown], label="a slide")
    for number, one in enumerate(others):
        axes.axvline(one.speedup, color="0.8", linewidth=0.8, label=None if number else "a slide without retention")
    means = (cohort.tile_speedup.mean_of_ratios.value, cohort.retention.mean_of_ratios.value)
    if np.isfinite(means).all():
        axes.scatter(*means, marker="x", color="black", label="mean of ratios")
    lowest = min([0.55, *(one.retention for one in shown)])
    axes.set(
        ylim=(lowest - 0.05, 1.02), xlabel="speedup in tiles", ylabel="positive retention", title="Kept and gained"
    )
    _legend(axes)


def _legend(axes: Axes) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize="small")
