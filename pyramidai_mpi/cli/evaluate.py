"""``pyramidai evaluate``: what the pyramid costs and gains on slides with ground truth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.cli.truth_options import MIN_SHARE, PATH, RESULTS, truth_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.evaluation.dense_results import DenseRun
    from pyramidai_mpi.evaluation.slide import DetectionRule
    from pyramidai_mpi.truth.truth import TruthOptions


@click.command("evaluate")
@RESULTS
@click.option("--truth", type=PATH, metavar="DIR", help="Annotations, one file a slide.")
@click.option(
    "--labels",
    type=PATH,
    metavar="F.csv",
    help="Judge predictions of whole slides instead: a table of slide and label, of slide and share, or of slide, time "
    "and event; with patient, if wanted.",
)
@click.option(
    "--threshold", multiple=True, metavar="LEVEL=VALUE", help="Judge this threshold on exhaustive results. Repeatable."
)
@MIN_SHARE
@truth_options
@click.option("--detection-threshold", type=float, metavar="X", help="Lowest tile score of FROC.  [default: level 0's]")
@click.option(
    "--detection-radius",
    type=click.FloatRange(0),
    default=200.0,
    show_default=True,
    metavar="UM",
    help="Places of FROC are the highest scores within this radius.",
)
@click.option(
    "--stride",
    "strides",
    type=click.IntRange(1),
    multiple=True,
    metavar="S",
    help="Of results of run --stride: judge windows at every S pixels, too, which a finer stride has among its own. "
    "Repeatable.  [default: the stride doubled, and a window's side]",
)
@click.option("--resamples", type=click.IntRange(10), default=2000, show_default=True, help="For 95 % intervals.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamples.")
@click.option("--json", "json_file", type=PATH, metavar="F.json", help="Write all figures.")
@click.option("--csv", "csv_file", type=PATH, metavar="F.csv", help="Write one row a slide.")
@click.option(
    "--plots",
    type=PATH,
    metavar="DIR",
    help="Draw ROC, FROC, retention against speedup; of maps FROC.",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    results: tuple[Path, ...],
    truth: Path | None,
    labels: Path | None,
    threshold: tuple[str, ...],
    min_share: float,
    options: TruthOptions,
    detection_threshold: float | None,
    detection_radius: float,
    strides: tuple[int, ...],
    resamples: int,
    seed: int,
    json_file: Path | None,
    csv_file: Path | None,
    plots: Path | None,
    overwrite: bool,
) -> int:
    """Compare results with ground truth: positive retention, speedup, tile ROC and lesion FROC.

    Results of one slide belong together: a pyramidal run is judged against a reference or an exhaustive run. An
    exhaustive result alone is enough, as it tells what a pyramidal run of any thresholds would have done.

    Where any result is of a run with --stride, all are judged as maps of windows: FROC at their own resolution, the
    slide's highest score, and how far maps agree with that of the finest stride.

    With --labels in place of --truth, predictions of whole slides: ROC, error of shares, concordance of survival.
    """
    from pyramidai_mpi.base.settings import parse_thresholds
    from pyramidai_mpi.evaluation.dense_results import read_dense_run
    from pyramidai_mpi.evaluation.slide import DetectionRule
    from pyramidai_mpi.store.files.placing import check_target

    written = _Written(json_file, csv_file, plots, overwrite)
    for target in (json_file, csv_file):
        if target is not None:
            check_target(target, overwrite=overwrite, inputs=results)
    if (truth is None) == (labels is None):
        raise UsageError("evaluate needs to know what is true: give --truth, of tiles, or --labels, of whole slides")
    if labels is not None:
        _check_of_slides()
        from pyramidai_mpi.cli.predicted_slides import evaluate_slides

        evaluate_slides(
            results,
            labels,
            resamples=resamples,
            seed=seed,
            json_file=json_file,
            csv_file=csv_file,
            overwrite=overwrite,
        )
        return 0
    assert truth is not None
    changes = parse_thresholds(threshold)
    rule = DetectionRule(detection_threshold, detection_radius)
    figures = _Figures(rule, resamples, seed)
    runs = [read_dense_run(path) for path in results]
    if any(run.has_strides for run in runs):
        given = click.get_current_context().get_parameter_source("min_share") is ParameterSource.COMMANDLINE
        if changes or given:
            raise UsageError(
                f"{'--threshold' if changes else '--min-share'}: is of tiles, and results of runs with --stride are "
                "judged by their windows"
            )
        _evaluate_maps(runs, truth, options, strides, figures, written)
    elif strides:
        raise UsageError(f"--stride {strides[0]}: no result is of a run with --stride")
    else:
        _evaluate_tiles(results, truth, options, min_share, changes, figures, written)
    return 0


_OF_SLIDES = ("results", "labels", "resamples", "seed", "json_file", "csv_file", "overwrite")
"""What goes with ``--labels``; all else is of tiles."""


def _check_of_slides() -> None:
    """See that no option of tiles is given with labels of whole slides."""
    context = click.get_current_context()
    for parameter in context.command.params:
        given = context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
        if given and parameter.name not in _OF_SLIDES:
            raise UsageError(f"{parameter.opts[0]}: is of tiles, and --labels judges whole slides; leave it out")


@dataclass(frozen=True)
class _Written:
    """Files that are asked for."""

    json_file: Path | None
    csv_file: Path | None
    plots: Path | None
    overwrite: bool

    def check_plots(self, names: Sequence[str], results: Sequence[Path]) -> None:
        """See that pictures are not in the way of others, before any work."""
        from pyramidai_mpi.store.files.placing import check_target

        if self.plots is None:
            return
        for name in names:
            check_target(self.plots / name, overwrite=self.overwrite, inputs=results)

    def write(self, lines: Iterable[str], json_text: Callable[[], str], csv_text: Callable[[], str]) -> None:
        """Print the tables and place the files."""
        from pyramidai_mpi.store.files.placing import placed

        for line in lines:
            click.echo(line)
        for path, text in ((self.json_file, json_text), (self.csv_file, csv_text)):
            if path is not None:
                with placed(path, overwrite=self.overwrite) as temporary:
                    temporary.write_bytes(text().encode(errors="backslashreplace"))


@dataclass(frozen=True)
class _Figures:
    """How places are picked, and how intervals are drawn."""

    rule: DetectionRule
    resamples: int
    seed: int


def _evaluate_tiles(
    results: Sequence[Path],
    truth: Path,
    options: TruthOptions,
    min_share: float,
    changes: Mapping[int, float],
    figures: _Figures,
    written: _Written,
) -> None:
    from pyramidai_mpi.evaluation.cohort import evaluate_cohort
    from pyramidai_mpi.evaluation.pairing import group_results, runs_of
    from pyramidai_mpi.evaluation.records import evaluation_csv, evaluation_json
    from pyramidai_mpi.evaluation.slide import evaluate_slide
    from pyramidai_mpi.evaluation.tables import evaluation_lines
    from pyramidai_mpi.truth.labels import read_labelled

    if written.plots is not None:
        from pyramidai_mpi.evaluation.plots import NAMES, write_plots

        written.check_plots(NAMES, results)
    slides = []
    for paths in group_results(results):
        runs = runs_of([read_labelled(path, truth, min_share=min_share, options=options) for path in paths])
        slides.append(evaluate_slide(runs, figures.rule, runs.changed_thresholds(changes)))
    cohort = evaluate_cohort(slides, figures.rule, n_resamples=figures.resamples, seed=figures.seed)
    written.write(evaluation_lines(cohort), partial(evaluation_json, cohort), partial(evaluation_csv, cohort))
    if written.plots is not None:
        write_plots(cohort, written.plots, overwrite=written.overwrite)


def _evaluate_maps(
    runs: Sequence[DenseRun],
    truth: Path,
    options: TruthOptions,
    strides: tuple[int, ...],
    figures: _Figures,
    written: _Written,
) -> None:
    from pyramidai_mpi.evaluation.dense import evaluate_dense_cohort
    from pyramidai_mpi.evaluation.dense_results import evaluate_dense_runs, group_dense_runs
    from pyramidai_mpi.evaluation.dense_tables import dense_csv, dense_json, dense_lines

    if written.plots is not None:
        from pyramidai_mpi.evaluation.plots import DENSE_NAMES, write_dense_plots

        written.check_plots(DENSE_NAMES, [run.path for run in runs])
    slides = [evaluate_dense_runs(group, truth, figures.rule, strides, options) for group in group_dense_runs(runs)]
    cohort = evaluate_dense_cohort(slides, figures.rule, n_resamples=figures.resamples, seed=figures.seed)
    written.write(dense_lines(cohort), partial(dense_json, cohort), partial(dense_csv, cohort))
    if written.plots is not None:
        write_dense_plots(cohort, written.plots, overwrite=written.overwrite)
