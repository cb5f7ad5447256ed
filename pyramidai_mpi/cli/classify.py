"""``pyramidai classify``: tumour slide or not, from the tiles of results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.base.errors import UsageError, input_errors, printable
from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.cli.truth_options import PATH, RESULTS, truth_options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.classification.score_map import ScoreMap
    from pyramidai_mpi.truth.truth import TruthOptions


def _common(function: Callable[..., int]) -> Callable[..., int]:
    """Options that fit and predict share."""
    options: list[Any] = [
        click.option("--labels", type=PATH, metavar="F.csv", help="Table of slide name, tumor or normal."),
        click.option(
            "--truth", type=PATH, metavar="DIR", help="Annotations: a slide with any tumour is a tumour slide."
        ),
        truth_options,
        click.option("--pyramid", is_flag=True, help="Use what a pyramidal run has seen, of exhaustive results too."),
        click.option(
            "--threshold", multiple=True, metavar="LEVEL=VALUE", help="With these thresholds in place of its own."
        ),
        click.option(
            "--stride",
            type=click.IntRange(1),
            metavar="S",
            help="Use windows at every S pixels, of results of run --stride that has them among its own.",
        ),
        click.option("--csv", "table", type=PATH, metavar="F.csv", help="Write each slide's probability."),
        click.option("--resamples", type=click.IntRange(10), default=2000, show_default=True, help="For intervals."),
        click.option("--overwrite", is_flag=True, help="Replace existing files."),
    ]
    for option in reversed(options):
        function = option(function)
    return function


@click.group("classify", no_args_is_help=False)
def command() -> None:
    """Tell tumour slides from normal ones by the results of their analysis.

    A tile that the pyramid did not zoom into lends its score to all level-0 tiles below it, so that results of every
    mode can be used, and even mixed.
    """


@command.command("fit")
@RESULTS
@click.option("-o", "--output", type=PATH, required=True, metavar="MODEL.skops", help="The classifier.")
@click.option(
    "--features",
    type=click.Choice(["histogram", "heatmap"]),
    default="heatmap",
    show_default=True,
    help="Bagged trees on the histogram of tile scores, or a random forest on 30 features of the heatmap.",
)
@click.option("--bins", type=click.IntRange(2, 1000), default=20, show_default=True, help="Of the histogram.")
@click.option("--trees", type=click.IntRange(1, 10_000), default=200, show_default=True, help="To grow.")
@click.option("--folds", type=click.IntRange(2), default=5, show_default=True, help="Of the cross-validation.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of trees, folds and resamples.")
@_common
def fit(
    results: tuple[Path, ...],
    output: Path,
    features: str,
    bins: int,
    trees: int,
    folds: int,
    seed: int,
    labels: Path | None,
    truth: Path | None,
    options: TruthOptions,
    pyramid: bool,
    threshold: tuple[str, ...],
    stride: int | None,
    table: Path | None,
    resamples: int,
    overwrite: bool,
) -> int:
    """Fit a classifier on results of slides that are known.

    Printed are its figures on slides it had not seen, by cross-validation; the classifier written is fitted on all.
    """
    from pyramidai_mpi.classification.classifier import cross_validate, fit_classifier, judge_slides
    from pyramidai_mpi.classification.features import FeatureKind
    from pyramidai_mpi.classification.storage import save_classifier
    from pyramidai_mpi.store.files.placing import check_target

    require_extra("classify", "fitting a classifier")
    for target in (output, table):
        if target is not None:
            check_target(target, overwrite=overwrite, inputs=results)
    if (labels is None) == (truth is None):
        raise UsageError("classify fit needs to know the slides: give either --labels or --truth")
    maps = _read_maps(results, threshold, pyramid=pyramid, stride=stride)
    tumor = _tumor_slides(maps, labels, truth, options)
    kind = FeatureKind(features)
    classifier = fit_classifier(maps, tumor, kind, bins=bins, seed=seed, n_trees=trees)
    probability = cross_validate(maps, tumor, kind, bins=bins, seed=seed, folds=folds, n_trees=trees)
    figures = judge_slides(probability, tumor, n_resamples=resamples, seed=seed)
    save_classifier(classifier, output, overwrite=overwrite)
    click.echo(f"{output}: {features} of {classifier.n_tumor} tumour and {classifier.n_normal} normal slides")
    for run in classifier.runs:
        click.echo(f"tiles of: {run}")
    click.echo(f"cross-validated: {figures}")
    if table is not None:
        _write_table(table, maps, probability, tumor, overwrite=overwrite)
    return 0


@command.command("predict")
@click.argument("words", type=PATH, nargs=-1, required=True, metavar="[MODEL.skops] RESULT.h5...")
@_common
def predict(
    words: tuple[Path, ...],
    labels: Path | None,
    truth: Path | None,
    options: TruthOptions,
    pyramid: bool,
    threshold: tuple[str, ...],
    stride: int | None,
    table: Path | None,
    resamples: int,
    overwrite: bool,
) -> int:
    """Say of each result's slide how likely it is a tumour slide.

    Results of a model that predicts slides need no MODEL.skops: what it says of them is printed. With --labels or
    --truth, say also how good that was.
    """
    from pyramidai_mpi.classification.classifier import CALLED_TUMOR, judge_slides
    from pyramidai_mpi.classification.storage import load_classifier
    from pyramidai_mpi.store.files.placing import check_target

    if labels is not None and truth is not None:
        raise UsageError("give --labels or --truth, not both")
    if _is_hdf5(words[0]):
        if table is not None:
            check_target(table, overwrite=overwrite, inputs=words)
        if truth is not None or pyramid or threshold or stride is not None:
            raise UsageError(
                "--truth, --pyramid, --threshold and --stride go with a classifier; results that hold predictions of "
                "their slides go with --labels"
            )
        from pyramidai_mpi.cli.predicted_slides import report_slides

        report_slides(words, labels, resamples=resamples, table=table, overwrite=overwrite)
        return 0
    model, results = words[0], words[1:]
    if not results:
        raise UsageError(f"classify predict {model}: give at least one result")
    if table is not None:
        check_target(table, overwrite=overwrite, inputs=[model, *results])
    classifier = load_classifier(model)
    maps = _read_maps(results, threshold, pyramid=pyramid, stride=stride)
    tumor = None if labels is None and truth is None else _tumor_slides(maps, labels, truth, options)
    probability = classifier.predict(maps)
    for one, value in zip(maps, probability.tolist(), strict=True):
        click.echo(f"{value:.3f}  {'tumour' if value >= CALLED_TUMOR else 'normal'}  {printable(one.slide)}")
    for run in sorted({one.run for one in maps} - set(classifier.runs)):
        click.echo(f"note: fitted on tiles of: {'; '.join(classifier.runs)}. These are of: {run}", err=True)
    if tumor is not None:
        click.echo(str(judge_slides(probability, tumor, n_resamples=resamples)))
    if table is not None:
        _write_table(table, maps, probability, tumor, overwrite=overwrite)
    return 0


def _is_hdf5(path: Path) -> bool:
    """Whether a file is a result, and so no classifier; one that is not there is none."""
    if not path.is_file():
        return path.suffix.lower() in {".h5", ".hdf5"}
    with input_errors(path), path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _read_maps(
    results: Sequence[Path], threshold: Sequence[str], *, pyramid: bool, stride: int | None
) -> list[ScoreMap]:
    from pyramidai_mpi.base.settings import parse_thresholds
    from pyramidai_mpi.classification.score_map import read_score_map

    thresholds = parse_thresholds(threshold)
    return [read_score_map(path, thresholds, pyramid=pyramid, stride=stride) for path in results]


def _tumor_slides(
    maps: Sequence[ScoreMap], labels: Path | None, truth: Path | None, options: TruthOptions
) -> npt.NDArray[np.bool_]:
    import numpy as np

    if labels is not None:
        from pyramidai_mpi.classification.slide_labels import read_labels

        table = read_labels(labels)
        return np.array([table.is_tumor(one.slide) for one in maps], bool)
    assert truth is not None
    return np.array([_holds_tumor(truth, one, options) for one in maps], bool)


def _holds_tumor(truth: Path, one: ScoreMap, options: TruthOptions) -> bool:
    from pyramidai_mpi.truth.truth import read_truth

    width, height = one.l0_size
    step = 32
    found = read_truth(truth, one.slide, one.l0_size, options)
    return bool(found.coverage((-(-height // step), -(-width // step)), step).any())


def _write_table(
    path: Path,
    maps: Sequence[ScoreMap],
    probability: npt.NDArray[np.float64],
    tumor: npt.NDArray[np.bool_] | None,
    *,
    overwrite: bool,
) -> None:
    from pyramidai_mpi.base.csv_text import csv_row
    from pyramidai_mpi.store.files.placing import placed

    rows = [csv_row(["slide", "probability", *(["tumor"] if tumor is not None else [])])]
    for row, one in enumerate(maps):
        label = [] if tumor is None else ["true" if tumor[row] else "false"]
        rows.append(csv_row([one.slide, repr(float(probability[row])), *label]))
    with placed(path, overwrite=overwrite) as temporary:
        temporary.write_text("".join(rows), encoding="utf-8")
