"""``pyramidai tune``: thresholds from annotated slides, or a band over strides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyramidai_mpi.cli.model_option import MODEL
from pyramidai_mpi.cli.truth_options import MIN_SHARE, PATH, RESULTS, truth_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from pyramidai_mpi.truth.truth import TruthOptions
    from pyramidai_mpi.tuning.comparison import Comparison
    from pyramidai_mpi.tuning.guarantee import GuaranteedThresholds
    from pyramidai_mpi.tuning.labelled_slides import LabelledSlides
    from pyramidai_mpi.tuning.strategies import Choice
    from pyramidai_mpi.tuning.tuned_package import TuningRecord


@click.command("tune")
@RESULTS
@click.option("--truth", type=PATH, metavar="DIR", help="Annotations, one file a slide; --band can do without.")
@click.option(
    "--band",
    is_flag=True,
    help="Choose which cells are refined where windows lie at strides in steps, from runs of all windows.",
)
@click.option(
    "--strides",
    multiple=True,
    metavar="S,S,...",
    help="--band: strides to try, the finest first. Repeatable.  [default: the results' and its doubles]",
)
@click.option(
    "--objective",
    type=click.FloatRange(0, 1, min_open=True),
    help="Retention to keep, mean over slides; --band: IoU with the map of all windows.  [default: 0.9; --band: 0.99]",
)
@click.option(
    "--strategy",
    type=click.Choice(["optimal", "metric-based", "empirical"]),
    help="Whose thresholds are chosen; all are shown.  [default: optimal]",
)
@click.option(
    "--guarantee",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="ALPHA",
    help="Promise an expected miss rate on new slides instead.",
)
@click.option(
    "--calibration-share",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="--guarantee: share of the slides that calibrate, more where ALPHA takes more.",
)
@click.option(
    "--count-negative-slides", is_flag=True, help="--guarantee: slides without tumour count, missing nothing."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="--guarantee: split of slides.")
@click.option(
    "--test", "tests", type=PATH, multiple=True, metavar="RESULT.h5", help="Slides to measure on. Repeatable."
)
@MIN_SHARE
@click.option(
    "--from-below",
    is_flag=True,
    help="Above level 0, a tile is positive where any level-0 tile in it is: for small lesions.",
)
@truth_options
@click.option(
    "--model", type=MODEL, metavar="DIR|NAME", help="Package that made the results.  [default: the shipped one]"
)
@click.option("-o", "--output", type=PATH, metavar="OUT", help="Package to write: a folder, or its model.yaml.")
@click.option("--plots", type=PATH, metavar="DIR", help="Write the figures there.")
@click.option("--overwrite", is_flag=True, help="Replace existing figures and the thresholds of an existing package.")
def command(
    results: tuple[Path, ...],
    truth: Path | None,
    band: bool,
    strides: tuple[str, ...],
    objective: float | None,
    strategy: str | None,
    guarantee: float | None,
    calibration_share: float,
    count_negative_slides: bool,
    seed: int,
    tests: tuple[Path, ...],
    min_share: float,
    from_below: bool,
    options: TruthOptions,
    model: Path | None,
    output: Path | None,
    plots: Path | None,
    overwrite: bool,
) -> int:
    """Choose the thresholds of levels 1 up from results of `run --mode exhaustive` (files, or folders of them).

    With --band choose what `run --stride S --stride-mode adaptive` refines, from results of `run --mode reference
    --stride S`.

    The truth is found by the slides' names: NAME.xml (ASAP), NAME.geojson (QuPath), NAME_mask.tif, or a line in
    negative.txt for a slide without tumour. A tile is positive when enough of its tissue is tumour.
    """
    from pyramidai_mpi.base.errors import UsageError
    from pyramidai_mpi.models.package import load_package
    from pyramidai_mpi.models.shipped import find_model
    from pyramidai_mpi.store.files.placing import check_target
    from pyramidai_mpi.tuning import report
    from pyramidai_mpi.tuning.comparison import Comparison
    from pyramidai_mpi.tuning.guarantee import GuaranteeRequest, guarantee_thresholds
    from pyramidai_mpi.tuning.labelled_slides import read_labelled_slides
    from pyramidai_mpi.tuning.tuned_package import check_output, check_source, output_folder, write_tuned

    request = None
    if guarantee is not None:
        request = GuaranteeRequest(guarantee, calibration_share, count_negative_slides, seed)
    if band:
        from pyramidai_mpi.cli.tune_band import DEFAULT_IOU, BandTuning, tune_band

        for name, given in (("--strategy", strategy), ("--from-below", from_below), ("--plots", plots)):
            if given:
                raise UsageError(f"{name} is about thresholds and says nothing of a band; leave it away")
        return tune_band(
            BandTuning(
                _files(results),
                _files(tests),
                truth,
                options,
                strides,
                DEFAULT_IOU if objective is None else objective,
                request,
                model,
                output,
                overwrite,
            )
        )
    if truth is None:
        raise UsageError("--truth is needed: thresholds are chosen on annotated slides; name the folder of annotations")
    if strides:
        raise UsageError("--strides says with which strides a band is tried; add --band, or leave it away")
    objective = 0.9 if objective is None else objective
    if guarantee is not None and strategy is not None:
        raise UsageError("--guarantee chooses thresholds its own way; leave --strategy away")
    if plots is not None:
        from pyramidai_mpi.tuning.plots import NAMES

        for name in NAMES:
            check_target(plots / name, overwrite=overwrite)
    package = folder = None
    if output is not None:
        package, folder = load_package(find_model(model)), output_folder(output)
        check_output(package, folder, overwrite=overwrite)
    training = read_labelled_slides(_files(results), truth, min_share=min_share, from_below=from_below, options=options)
    if package is not None:
        check_source(package, training.level_sha256)
    test = None
    if tests:
        test = read_labelled_slides(
            _files(tests), truth, min_share=min_share, from_below=from_below, options=options, like=training
        )
    _say(report.labelled_slides_lines(training, "training"))
    if test:
        _say(report.labelled_slides_lines(test, "test"))
    comparison = Comparison(training.cohort, test.cohort if test else None)
    if comparison.table:
        _say(["", *report.beta_lines(comparison.table)])
    attempts = comparison.attempts(objective)
    _say(["", *report.comparison_lines(attempts, training.cohort, comparison.test)])
    guaranteed = None
    if request is not None:
        guaranteed = guarantee_thresholds(training.cohort, request)
        _say(["", *report.guarantee_lines(guaranteed)])
    choice = _chosen(comparison, guaranteed, strategy or "optimal", objective)
    _say(["", *report.choice_lines(choice, comparison)])
    if plots is not None:
        from pyramidai_mpi.tuning.plots import draw_all

        _say(f"wrote {path}" for path in draw_all(plots, comparison.table, comparison.curves(), overwrite=overwrite))
    if package is not None and folder is not None:
        written = write_tuned(
            package, folder, choice.thresholds, _record(training, choice, guaranteed), overwrite=overwrite
        )
        click.echo(f"wrote {written}")
    return 0


def _files(paths: Sequence[Path]) -> list[Path]:
    """Result files: those given, and of folders all that they hold."""
    from pyramidai_mpi.base.errors import InputError

    found: list[Path] = []
    for path in paths:
        inside = sorted(path.glob("*.h5")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: holds no result file (*.h5)")
        found += inside
    return found


def _chosen(comparison: Comparison, guaranteed: GuaranteedThresholds | None, strategy: str, objective: float) -> Choice:
    from pyramidai_mpi.base.errors import InputError
    from pyramidai_mpi.tuning.strategies import Choice

    if guaranteed is not None:
        measured = comparison.cohort.measure(guaranteed.guarantee.thresholds)
        return Choice("guarantee", float("nan"), measured)
    attempt = comparison.attempt(strategy, objective)
    if attempt.choice is None:
        raise InputError(attempt.reason)
    return attempt.choice


def _record(training: LabelledSlides, choice: Choice, guaranteed: GuaranteedThresholds | None) -> TuningRecord:
    from datetime import UTC, datetime

    import pyramidai_mpi
    from pyramidai_mpi.tuning.tuned_package import TuningRecord

    return TuningRecord(
        strategy=choice.strategy,
        objective=choice.objective,
        min_share=training.min_share,
        from_below=training.from_below,
        retention=choice.measured.retention,
        speedup=choice.measured.speedup,
        slides=training.slides,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        software_version=pyramidai_mpi.__version__,
        alpha=guaranteed.guarantee.alpha if guaranteed else float("nan"),
        calibration=[training.slides[k] for k in guaranteed.calibration_slides] if guaranteed else (),
    )


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
