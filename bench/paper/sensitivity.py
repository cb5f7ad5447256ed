"""What depends on the assumptions behind the cohort of geometry.

    python -m bench.paper.sensitivity [--outlines FILE]

One assumption at a time is changed; the separations are solved anew each time, so Table 2's accuracies hold in every
row. Given are the metric-based and the empirical choice at 0.90 on the slides that did not choose: the beta of the
empirical one (beyond the paper's 14 where none of these keeps enough), retention, and times fewer tiles as mean of
ratios and ratio of means.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from bench.command_line import command_line
from bench.figures import print_table
from bench.paper.geometry_cohort import draw_cohort, lay_out
from bench.paper.lesions import load_outlines
from bench.paper.measured import both, short
from bench.paper.paper_study import study_cohort
from bench.paper.slide_geometry import PAPER_REFERENCE_TILES, TissueModel, labelled_from_below
from bench.paper.tile_scores import Noise
from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from bench.paper.geometry_cohort import Cohort

TISSUE = TissueModel()
NOISE = Noise()


def variants(outlines: dict[str, Any]) -> Iterator[tuple[str, Cohort]]:
    """Names and cohorts; one is alive at a time."""
    slides = lay_out(outlines)
    yield "by share: answer full at a whole tile of tumour (base)", draw_cohort(slides)
    for full_at in (0.5, 0.25):
        yield f"answer full at a share of {full_at:g}", draw_cohort(slides, full_at=full_at)
    yield "answer by class, 50 % of the tissue", draw_cohort(slides, full_at=None)
    yield (
        "from below: by class, any level-0 descendant",
        draw_cohort([labelled_from_below(slide) for slide in slides], full_at=None),
    )
    for noise in (
        replace(NOISE, length_um=100.0),
        replace(NOISE, length_um=2000.0),
        replace(NOISE, field=0.0),
        replace(NOISE, field=0.8),
        replace(NOISE, slide=0.0),
        replace(NOISE, slide=0.3),
        replace(NOISE, shared=0.0),
        replace(NOISE, shared=1.0),
    ):
        names = [name for name, value in asdict(noise).items() if value != getattr(NOISE, name)]
        what = ", ".join(f"{name} {getattr(noise, name):g} instead of {getattr(NOISE, name):g}" for name in names)
        yield f"noise: {what}", draw_cohort(slides, noise=noise)
    yield "other random numbers", draw_cohort(lay_out(outlines, seed=1), seed=1)
    yield "no tumour-free slides", draw_cohort(slides[: len(outlines)])
    for factor in (0.5, 2.0):
        tissue = replace(TISSUE, mean_tiles=factor * PAPER_REFERENCE_TILES)
        yield f"{factor:g} times the tissue", draw_cohort(lay_out(outlines, tissue=tissue))
    yield (
        "lesions fill half of the tissue at most",
        draw_cohort(lay_out(outlines, tissue=replace(TISSUE, most_tumor=0.5))),
    )


def row_of(name: str, cohort: Cohort) -> list[str]:
    """What both strategies keep and save."""
    try:
        study = study_cohort(name, cohort.train, cohort.test, 0.5)
    except InputError:
        return [name, "-", "no beta keeps 0.90", "", "", ""]
    cells = [name, f"{study.chosen['empirical'].betas[0]:g}"]
    for method in ("metric", "empirical"):
        measured = study.on_test[method]
        cells += [short(measured.retention.mean_of_ratios), both(measured.speedup)]
    return cells


def main() -> None:
    """A row a variant, as Markdown."""
    parser = command_line(__doc__, "outlines")
    options = parser.parse_args()
    heads = ["assumption", "beta", "metric: retention", "times fewer tiles"]
    heads += ["empirical: retention", "times fewer tiles"]
    print_table(heads, (row_of(*variant) for variant in variants(load_outlines(options.outlines))))


if __name__ == "__main__":
    main()
