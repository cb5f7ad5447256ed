"""Predictions of whole slides against what is true of them, with patients as the unit of chance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.evaluation.bootstrap import draw_slides, estimate
from pyramidai_mpi.evaluation.roc import auc_table
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.store.results.prediction import PredictionRecord
    from pyramidai_mpi.truth.slide_table import SlideTruth

    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class PredictedSlide:
    """A slide's name and its prediction, from the result `path`."""

    path: Path
    slide: str
    record: PredictionRecord


def read_predicted(path: Path) -> PredictedSlide:
    """Read the prediction of a result.

    Raises
    ------
    InputError
        It is no result, or of a model that predicts tiles alone.
    """
    with open_result(path) as file:
        header = read_header(file)
    if header.prediction is None:
        raise InputError(
            f"{path}: holds no prediction of the slide: model {header.model.name} predicts tiles alone; a slide is "
            "predicted by a model with an aggregator, or by a classifier (classify fit)"
        )
    return PredictedSlide(path, header.slide.name, header.prediction)


def check_alike(slides: Sequence[PredictedSlide]) -> None:
    """See that predictions of several slides are of one model, and none is there twice.

    Raises
    ------
    InputError
        They are not.
    """
    first, seen = slides[0], set()
    for one in slides:
        if one.record.sha256 != first.record.sha256:
            raise InputError(f"{one.path}: is predicted by another aggregator than {first.path}; judge them apart")
        if one.slide in seen:
            raise InputError(f"{one.path}: slide {one.slide} is there already; give one result a slide")
        seen.add(one.slide)


@dataclass(frozen=True)
class Figure:
    """One figure by its name."""

    name: str
    estimate: Estimate


@dataclass(frozen=True)
class SlideFigures:
    """How good the predictions of slides are.

    Attributes
    ----------
    task, classes
        Of the model.
    figures
        The most telling first.
    n_slides, n_patients
        What they stand on.
    counts
        Slides by class, or with and without event; empty of task ``share``.
    n_resamples, seed
        Of the intervals.
    """

    task: str
    classes: tuple[str, ...]
    figures: tuple[Figure, ...]
    n_slides: int
    n_patients: int
    counts: dict[str, int]
    n_resamples: int
    seed: int

    def lines(self) -> list[str]:
        """For the terminal."""
        said = ", ".join(f"{n} {name}" for name, n in self.counts.items())
        of = f" of {self.n_patients} patients" if self.n_patients != self.n_slides else ""
        drawn = "patients" if of else "slides"
        width = max(len(one.name) for one in self.figures)
        return [
            f"{self.n_slides} slides{of}{f': {said}' if said else ''}",
            *(f"{one.name.ljust(width)}  {one.estimate}" for one in self.figures),
            f"[95 % intervals: {self.n_resamples} draws of {drawn}, seed {self.seed}]",
        ]

    def record(self) -> dict[str, Any]:
        """As it is written in JSON."""
        return {
            "format": "pyramidai-slide-evaluation/1",
            "task": self.task,
            "classes": list(self.classes),
            "slides": self.n_slides,
            "patients": self.n_patients,
            "counts": self.counts,
            "intervals": {"confidence": 0.95, "resamples": self.n_resamples, "seed": self.seed},
            "figures": {
                one.name: {
                    name: value if np.isfinite(value) else None
                    for name, value in (
                        ("value", one.estimate.value),
                        ("low", one.estimate.low),
                        ("high", one.estimate.high),
                    )
                }
                for one in self.figures
            },
        }


def judge_predictions(
    task: str,
    classes: Sequence[str],
    predictions: Floats,
    truth: Sequence[SlideTruth],
    *,
    n_resamples: int = 2000,
    seed: int = 0,
) -> SlideFigures:
    """Compare predictions with what is true.

    Of ``binary`` the area under the ROC curve and the share called right at 0.5; of ``classes`` the area of each class
    against the others, their mean, and the share called right; of ``share`` the mean absolute error and Pearson's
    correlation; of ``survival`` Harrell's concordance: of pairs in which one is known to have its event before the
    other's time, the share in which it has the higher risk, a tie being half.

    Parameters
    ----------
    task, classes
        Of the model.
    predictions
        float64 (S, C).
    truth
        Of each slide.

    Returns
    -------
    SlideFigures
        Figures are over slides; intervals draw patients, with all their slides.
    """
    values = np.array([one.values for one in truth], np.float64)
    number = {patient: n for n, patient in enumerate(dict.fromkeys(one.patient for one in truth))}
    unit, n_units = np.array([number[one.patient] for one in truth], np.int64), len(number)
    drawn = _Drawn(unit, draw_slides(n_units, n_resamples, seed), len(truth))
    counts: dict[str, int] = {}
    if task in {"binary", "classes"}:
        label = values[:, 0].astype(np.int64)
        counts = {name: int((label == n).sum()) for n, name in enumerate(classes)}
        figures = _class_figures(classes, predictions, label, drawn)
    elif task == "share":
        figures = _share_figures(predictions[:, 0], values[:, 0], drawn)
    else:
        event = values[:, 1] > 0
        counts = {"with event": int(event.sum()), "without": int((~event).sum())}
        figures = [Figure("concordance", _concordance(predictions[:, 0], values[:, 0], event, drawn))]
    return SlideFigures(task, tuple(classes), tuple(figures), len(truth), n_units, counts, n_resamples, seed)


@dataclass(frozen=True)
class _Drawn:
    """Cohorts that were drawn: the patient of each slide (S,), and how often each patient is drawn (B, P)."""

    unit: Ints
    counts: Ints
    n_slides: int

    @property
    def of_slides(self) -> Ints:
        """How often each slide is drawn, (B, S)."""
        return self.counts[:, self.unit]

    def groups(self, values: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
        """Values (S,) patient by patient."""
        return [values[self.unit == n] for n in range(self.counts.shape[1])]

    def mean(self, values: Floats) -> Estimate:
        """Mean of values (S,) with its interval."""
        of_slides = self.of_slides
        with np.errstate(invalid="ignore", divide="ignore"):
            resampled = of_slides @ values / of_slides.sum(axis=1)
        return estimate(float(values.mean()), resampled, self.n_slides)


def _class_figures(classes: Sequence[str], predictions: Floats, label: Ints, drawn: _Drawn) -> list[Figure]:
    columns = range(len(classes)) if len(classes) > 2 else [1]
    values, resampled, figures = [], [], []
    ones = np.ones((1, drawn.counts.shape[1]), np.int64)
    for column in columns:
        table = auc_table(drawn.groups(predictions[:, column]), drawn.groups(label == column))
        values.append(float(table.of(ones)[0]))
        resampled.append(table.of(drawn.counts))
        name = f"AUC of {classes[column]}" + (" against the others" if len(classes) > 2 else "")
        figures.append(Figure(name, estimate(values[-1], resampled[-1], drawn.n_slides)))
    if len(classes) > 2:
        known = np.isfinite(values)
        mean = float(np.mean(np.array(values)[known])) if known.any() else float("nan")
        # of a cohort that was drawn without one of the classes there is no such mean
        each = np.mean(np.array(resampled)[known], axis=0) if known.any() else np.full(len(drawn.counts), np.nan)
        figures.insert(0, Figure("mean AUC", estimate(mean, each, drawn.n_slides)))
    # a probability of exactly 1/2 counts as called positive, as elsewhere
    called = predictions.argmax(axis=1) if len(classes) > 2 else (predictions[:, 1] >= 0.5).astype(np.int64)
    return [*figures, Figure("called right", drawn.mean((called == label).astype(np.float64)))]


def _share_figures(predicted: Floats, share: Floats, drawn: _Drawn) -> list[Figure]:
    error = drawn.mean(np.abs(predicted - share))
    whole = _correlation(np.ones((1, drawn.n_slides), np.int64), predicted, share)
    correlation = estimate(float(whole[0]), _correlation(drawn.of_slides, predicted, share), drawn.n_slides)
    return [Figure("mean absolute error", error), Figure("correlation", correlation)]


def _correlation(counts: Ints, x: Floats, y: Floats) -> Floats:
    """Pearson's, of cohorts in which slide s is counts[:, s] times, (B,); NaN where either does not vary."""
    x, y = x - x.mean(), y - y.mean()
    n = counts.sum(axis=1)
    mean_x, mean_y = counts @ x / n, counts @ y / n
    both = counts @ (x * y) / n - mean_x * mean_y
    spread_x, spread_y = counts @ (x * x) / n - mean_x**2, counts @ (y * y) / n - mean_y**2
    least = 1e-14
    with np.errstate(invalid="ignore", divide="ignore"):
        found = both / np.sqrt(spread_x * spread_y)
    return np.where((spread_x > least) & (spread_y > least), found, np.nan)


def _concordance(risk: Floats, time: Floats, event: npt.NDArray[np.bool_], drawn: _Drawn) -> Estimate:
    judged = (event[:, None] & (time[:, None] < time)).astype(np.float64)
    right = judged * ((risk[:, None] > risk) + 0.5 * (risk[:, None] == risk))

    def of(counts: Ints) -> Floats:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(((counts @ right) * counts).sum(axis=1) / ((counts @ judged) * counts).sum(axis=1))

    return estimate(float(of(np.ones((1, drawn.n_slides), np.int64))[0]), of(drawn.of_slides), drawn.n_slides)
