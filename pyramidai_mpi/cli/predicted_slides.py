"""Predictions of whole slides on the command line: judged by ``evaluate``, reported by ``classify``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click
import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.errors import InputError, printable
from pyramidai_mpi.evaluation.slide_predictions import check_alike, judge_predictions, read_predicted
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.truth.slide_table import read_slide_table

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.evaluation.slide_predictions import PredictedSlide, SlideFigures
    from pyramidai_mpi.truth.slide_table import SlideTruth


def judge_slides(
    results: Sequence[Path], labels: Path, *, resamples: int, seed: int
) -> tuple[list[PredictedSlide], list[SlideTruth], SlideFigures]:
    """The slides that have a prediction, what is true of them, and how good that is; names the others.

    Raises
    ------
    InputError
        A result has no prediction to judge, or the table of labels does not fit.
    """
    slides = [read_predicted(path) for path in results]
    check_alike(slides)
    predicted = [one for one in slides if one.record.n_tiles]
    for one in slides:
        if not one.record.n_tiles:
            click.echo(f"note: {printable(one.slide)}: {one.record.words}: not in the figures", err=True)
    if not predicted:
        raise InputError(f"{slides[0].path}: no slide has a prediction, as no tile of level 0 was read")
    first = predicted[0].record
    truth = read_slide_table(labels, first.task, first.classes, [one.slide for one in predicted])
    numbers = np.array([one.record.prediction for one in predicted], np.float64)
    figures = judge_predictions(first.task, first.classes, numbers, truth, n_resamples=resamples, seed=seed)
    return predicted, truth, figures


def evaluate_slides(
    results: Sequence[Path],
    labels: Path,
    *,
    resamples: int,
    seed: int,
    json_file: Path | None,
    csv_file: Path | None,
    overwrite: bool,
) -> None:
    """Print how good the predictions of slides are, and write what is asked for.

    Raises
    ------
    InputError
        As `judge_slides`.
    OutputExistsError, StorageError
        A file cannot be placed.
    """
    predicted, truth, figures = judge_slides(results, labels, resamples=resamples, seed=seed)
    for line in figures.lines():
        click.echo(printable(line))
    if json_file is not None:
        slides = [
            {"slide": one.slide, "patient": said.patient, "prediction": one.record.prediction.tolist()}
            | {"truth": _told(one, said)}
            for one, said in zip(predicted, truth, strict=True)
        ]
        text = json.dumps(figures.record() | {"per_slide": slides}, indent=1, ensure_ascii=False, allow_nan=False)
        _place(json_file, text + "\n", overwrite=overwrite)
    if csv_file is not None:
        write_predictions(csv_file, predicted, truth, overwrite=overwrite)


def write_predictions(
    path: Path, slides: Sequence[PredictedSlide], truth: Sequence[SlideTruth] | None, *, overwrite: bool
) -> None:
    """Write one row a slide: ``slide``, ``prediction_<class>`` each, and what is true where that is known."""
    record = slides[0].record
    told: list[str] = []
    if truth is not None:
        told = ["patient", *(["label"] if record.task in {"binary", "classes"} else _NAMES[record.task])]
    rows = [csv_row(["slide", *(f"prediction_{name}" for name in record.classes), *told])]
    for n, one in enumerate(slides):
        numbers = [f"{value:.9g}" if np.isfinite(value) else "" for value in one.record.prediction.tolist()]
        known: list[object] = []
        if truth is not None:
            values = _told(one, truth[n])
            known = [truth[n].patient, *(values if isinstance(values, list) else [values])]
        rows.append(csv_row([one.slide, *numbers, *known]))
    _place(path, "".join(rows), overwrite=overwrite)


_NAMES = {"share": ["share"], "survival": ["time", "event"]}


def _told(slide: PredictedSlide, truth: SlideTruth) -> str | float | list[float]:
    record = slide.record
    if record.task in {"binary", "classes"}:
        return record.classes[int(truth.values[0])]
    return truth.values[0] if record.task == "share" else list(truth.values)


def _place(path: Path, text: str, *, overwrite: bool) -> None:
    with placed(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(text.encode(errors="backslashreplace"))


def report_slides(
    results: Sequence[Path],
    labels: Path | None,
    *,
    resamples: int,
    table: Path | None,
    overwrite: bool,
) -> None:
    """Print the prediction of each slide, and where labels are given how good they are.

    Raises
    ------
    InputError
        As `judge_slides`.
    OutputExistsError, StorageError
        The table cannot be placed.
    """
    slides = [read_predicted(path) for path in results]
    check_alike(slides)
    for one in slides:
        click.echo(printable(f"{one.record.words}  {one.slide}"))
    truth = None
    if labels is not None:
        slides, truth, figures = judge_slides(results, labels, resamples=resamples, seed=0)
        for line in figures.lines():
            click.echo(printable(line))
    if table is not None:
        write_predictions(table, slides, truth, overwrite=overwrite)
