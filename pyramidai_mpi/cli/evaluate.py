"""``pyramidai evaluate``: what the pyramid costs and gains on slides with ground truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from pyramidai_mpi.cli.truth_options import MIN_SHARE, PATH, RESULTS, TRUTH, truth_options

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.truth.truth import TruthOptions


@click.command("evaluate")
@RESULTS
@TRUTH
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
@click.option("--resamples", type=click.IntRange(10), default=2000, show_default=True, help="For 95 % intervals.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the resamples.")
@click.option("--json", "json_file", type=PATH, metavar="F.json", help="Write all figures.")
@click.option("--csv", "csv_file", type=PATH, metavar="F.csv", help="Write one row a slide.")
@click.option("--plots", type=PATH, metavar="DIR", help="Draw ROC, FROC, and retention against speedup.")
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
def command(
    results: tuple[Path, ...],
    truth: Path,
    threshold: tuple[str, ...],
    min_share: float,
    options: TruthOptions,
    detection_threshold: float | None,
    detection_radius: float,
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
    """
    from pyramidai_mpi.base.settings import parse_thresholds
    from pyramidai_mpi.evaluation.cohort import evaluate_cohort
    from pyramidai_mpi.evaluation.pairing import group_results, runs_of
    from pyramidai_mpi.evaluation.records import evaluation_csv, evaluation_json
    from pyramidai_mpi.evaluation.slide import DetectionRule, evaluate_slide
    from pyramidai_mpi.evaluation.tables import evaluation_lines
    from pyramidai_mpi.store.files.placing import check_target, placed
    from pyramidai_mpi.truth.labels import read_labelled

    targets = [target for target in (json_file, csv_file) if target is not None]
    if plots is not None:
        from pyramidai_mpi.evaluation.plots import NAMES

        targets += [plots / name for name in NAMES]
    for target in targets:
        check_target(target, overwrite=overwrite, inputs=results)
    changes = parse_thresholds(threshold)
    rule = DetectionRule(detection_threshold, detection_radius)
    slides = []
    for paths in group_results(results):
        runs = runs_of([read_labelled(path, truth, min_share=min_share, options=options) for path in paths])
        slides.append(evaluate_slide(runs, rule, runs.changed_thresholds(changes)))
    cohort = evaluate_cohort(slides, rule, n_resamples=resamples, seed=seed)
    for line in evaluation_lines(cohort):
        click.echo(line)
    for path, text in ((json_file, evaluation_json), (csv_file, evaluation_csv)):
        if path is not None:
            with placed(path, overwrite=overwrite) as temporary:
                temporary.write_bytes(text(cohort).encode(errors="backslashreplace"))
    if plots is not None:
        from pyramidai_mpi.evaluation.plots import write_plots

        write_plots(cohort, plots, overwrite=overwrite)
    return 0
