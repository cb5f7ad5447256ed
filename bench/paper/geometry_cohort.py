"""The cohort of geometry at full size: every CAMELYON16 outline in modelled tissue, and tumour-free slides.

    python -m bench.paper.geometry_cohort [--outlines FILE] [--free N] [--json FILE]

prints what the cohort holds and how good its drawn scores are beside the paper's Table 2. See
`bench.paper.slide_geometry` for the tissue and `bench.paper.tile_scores` for the scores. All 270 slides take half a
minute and 600 MB.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.paper.lesions import load_outlines
from bench.paper.slide_geometry import LEVELS, SlideGeometry, TissueModel, build_geometry
from bench.paper.tile_scores import PAPER_ACCURACY, Noise, ScoreModel, draw_tree, fit_to_accuracy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.truth.labelled_tree import LabelledTree

TUMOR_FREE = 160
"""As many as the training set of CAMELYON16 has."""


@dataclass(frozen=True)
class Cohort:
    """Trees in two halves, each with every second slide of either kind.

    Attributes
    ----------
    train, test
        Slides with lesions first.
    model
        How their scores were drawn.
    """

    train: tuple[LabelledTree, ...]
    test: tuple[LabelledTree, ...]
    model: ScoreModel

    @property
    def slides(self) -> tuple[LabelledTree, ...]:
        """All of them."""
        return self.train + self.test


def lay_out(
    outlines: dict[str, Any], tumor_free: int = TUMOR_FREE, tissue: TissueModel | None = None, seed: int = 0
) -> list[SlideGeometry]:
    """Geometry of all slides of an outline file, then of `tumor_free` more."""
    tissue = tissue or TissueModel()
    names: dict[str, Any] = dict(sorted(outlines.items())) | {f"free_{k:03}": {} for k in range(1, tumor_free + 1)}
    return [build_geometry(name, rings, tissue, seed) for name, rings in names.items()]


def draw_cohort(
    geometries: list[SlideGeometry], *, noise: Noise | None = None, full_at: float | None = 1.0, seed: int = 0
) -> Cohort:
    """Draw scores as good as Table 2 says for all slides, and halve them at random."""
    model = fit_to_accuracy(geometries, noise=noise or Noise(), full_at=full_at)
    trees = [draw_tree(geometry, model, seed) for geometry in geometries]
    return Cohort(*halve(trees, np.random.default_rng([seed, 2])), model)


def halve(
    trees: Sequence[LabelledTree], rng: np.random.Generator
) -> tuple[tuple[LabelledTree, ...], tuple[LabelledTree, ...]]:
    """Two random halves, with every second slide of either kind; those with tumour come first."""
    halves: tuple[list[LabelledTree], list[LabelledTree]] = ([], [])
    for kind in (True, False):
        here = [tree for tree in trees if has_tumor(tree) is kind]
        for place, k in enumerate(rng.permutation(len(here)).tolist()):
            halves[place % 2].append(here[k])
    return tuple(halves[0]), tuple(halves[1])


def has_tumor(tree: LabelledTree) -> bool:
    """Whether any tile of level 0 is tumour."""
    return bool(tree.levels[0].positive.any())


def describe(cohort: Cohort) -> list[Figure]:
    """Sizes, and the accuracies that the draw happened to give."""
    slides = cohort.slides
    with_tumor = [tree for tree in slides if has_tumor(tree)]
    tiles = np.array([tree.n_reference_tiles for tree in slides])
    figures = [
        Figure("slides", len(slides), "", {"with tumour": len(with_tumor)}),
        Figure("reference tiles, mean", float(tiles.mean()), "tiles", {"deviation": round(float(tiles.std()))}),
        Figure("reference tiles, largest", float(tiles.max()), "tiles"),
    ]
    for n in range(LEVELS):
        right = {
            kind: np.concatenate(
                [(tree.levels[n].score >= 0.5)[tree.levels[n].positive == kind] == kind for tree in slides]
            ).mean()
            for kind in (True, False)
        }
        setting = {"level": n, "Table 2": PAPER_ACCURACY[n], "separation": round(cohort.model.separation[n], 4)}
        setting |= {"sensitivity": round(float(right[True]), 4), "specificity": round(float(right[False]), 4)}
        figures.append(Figure("balanced accuracy as drawn", float(np.mean(list(right.values()))), "", setting))
    return figures


def main() -> None:
    """Build and describe."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--free", type=int, default=TUMOR_FREE, help="slides without tumour")
    parser.add_argument("--full-at", type=float, default=1.0, help="share of tumour from which a score answers fully")
    parser.add_argument("--by-class", action="store_true", help="scores answer to the label, not to the tumour share")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    geometries = lay_out(load_outlines(options.outlines), options.free, seed=options.seed)
    full_at = None if options.by_class else options.full_at
    report(describe(draw_cohort(geometries, full_at=full_at, seed=options.seed)), options.json)


if __name__ == "__main__":
    main()
