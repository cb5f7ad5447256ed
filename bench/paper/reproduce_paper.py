"""The paper's figures, row by row: what it reports, what we find on two kinds of cohort, and what differs in kind.

    python -m bench.paper.reproduce_paper --work FOLDER --output FOLDER [--model DIR] [--repetitions 1000]

Cohorts, each halved into slides that choose thresholds and slides that judge them:

- *pixels*: generated slides over CAMELYON16 outlines, the shipped networks (see `bench.paper.pixel_cohort`);
- *by share*: all 110 outlines at full size in modelled tissue, and 160 tumour-free slides. Scores are drawn, as good as
  the paper's Table 2 says, and answer to how much of a tile is tumour (see `bench.paper.tile_scores`);
- *from below*: the same slides. A tile above level 0 is positive where any level-0 descendant is, and scores answer to
  that, with the accuracies of Table 2 again.

On pixels, too, tiles above level 0 are positive where any descendant is: so the shipped networks were trained. The
paper does not say which holds for its own. Nothing is fitted to a retention or a speedup; `bench.paper.sensitivity`
says what depends on the assumptions. Writes plots (PNG and SVG) into the output folder.
"""

from __future__ import annotations

from pathlib import Path

from bench.command_line import Options, command_line
from bench.figures import print_table
from bench.paper.geometry_cohort import Cohort, draw_cohort, lay_out
from bench.paper.heatmap_plot import draw_heatmaps
from bench.paper.lesions import load_outlines
from bench.paper.paper_rows import Loads, PaperRow, paper_rows, three_slides
from bench.paper.paper_study import Study, study_cohort
from bench.paper.phase_times import PAPER_SECONDS, PhaseTimes, measure_phases
from bench.paper.pixel_cohort import add_options, cohort_of
from bench.paper.slide_geometry import labelled_from_below
from bench.paper.strategy_plots import draw_isolated, draw_objectives, draw_trade_off
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.simulate.plot import write_plots
from pyramidai_mpi.truth.labels import label_result

WORKERS = (1, 2, 4, 8, 12, 16, 32, 64)


def study_pixels(options: Options) -> Study:
    """The cohort of pixels under the networks' own threshold of level 0."""
    cohort = cohort_of(options)
    halves = [
        [label_result(slide.result, slide.slide.parent) for slide in half] for half in (cohort.train, cohort.test)
    ]
    train, test = ([tree.labelled_from_below() for tree in half] for half in halves)
    return study_cohort("pixels", train, test, options.l0_threshold)


def study_geometry(outlines: Path) -> list[Study]:
    """Both cohorts of geometry; a score of 0.5 calls a level-0 tile positive."""
    geometries = lay_out(load_outlines(outlines))
    cohorts: dict[str, Cohort] = {
        "by share": draw_cohort(geometries),
        "from below": draw_cohort([labelled_from_below(slide) for slide in geometries], full_at=None),
    }
    return [study_cohort(name, cohort.train, cohort.test, 0.5) for name, cohort in cohorts.items()]


def phase_times(options: Options) -> PhaseTimes:
    """Seconds of the phases, measured once a work folder."""
    path = options.work / f"phases-{options.repetitions}.npz"
    if not path.exists():
        slide = sorted(options.work.glob("tumor_*.tif"))[0]
        measure_phases(slide, options.model or default_model(), options.repetitions).save(path)
    return PhaseTimes.load(path)


def print_rows(rows: list[PaperRow], studies: list[Study]) -> None:
    """Markdown: a row a figure."""
    print_table(
        ["figure", "paper", *(study.name for study in studies), "what differs in kind"],
        ([row.what, row.paper, *(row.ours(study) for study in studies), row.differs] for row in rows),
    )


def print_times(times: PhaseTimes) -> None:
    """Table 3 as Markdown."""
    paper = [PAPER_SECONDS.initialisation, PAPER_SECONDS.task_creation, *PAPER_SECONDS.analysis]
    rows = []
    for (name, samples), of_paper in zip(times.named().items(), paper, strict=True):
        ours = [f"{1e3 * s.mean():.3g} ms, {1e3 * s.std():.2g}" for s in (samples.wall, samples.cpu)]
        rows.append([name, f"{1e3 * of_paper:.3g} ms", *ours])
    print_table(["phase", "paper", "wall, mean and deviation", "processor, mean and deviation"], rows)


def draw_plots(studies: list[Study], loads: Loads, folder: Path) -> None:
    """Figs. 2 to 6."""
    draw_isolated(studies, folder / "fig3")
    draw_objectives(studies, folder / "fig4")
    draw_trade_off(studies, folder / "fig5")
    for study in studies:
        stem = study.name.replace(" ", "-")
        draw_heatmaps(three_slides(study.test), study.chosen["empirical"].thresholds, folder / f"fig2-{stem}")
        write_plots(loads.rows(study), folder / f"fig6-{stem}", overwrite=True)


def main() -> None:
    """Study every cohort, print, plot."""
    parser = command_line(__doc__, "outlines")
    add_options(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for plots")
    parser.add_argument("--repetitions", type=int, default=1000, help="of each phase that is timed")
    parser.add_argument("--halvings", type=int, default=10, help="of each cohort, to compare the optimal strategy")
    parser.add_argument("--l0-threshold", type=float, default=0.55, help="of the model's level 0; the shipped one's")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    studies = [study_pixels(options), *study_geometry(options.outlines)]
    times = phase_times(options)
    loads = Loads(WORKERS)
    print_rows(paper_rows(loads, times.costs(cpu=True), options.halvings), studies)
    print()
    print_times(times)
    draw_plots(studies, loads, options.output)


if __name__ == "__main__":
    main()
