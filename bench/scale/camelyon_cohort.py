"""The 399 slides of CAMELYON16 without pixels, as work for the simulator.

Which slides there are, and which hold tumour, is the challenge's own list; 110 tumour slides of its training set have
their own outlines. A tumour slide whose outlines are not published with these (the test set's, and `tumor_111`) is
given those of another one, drawn among the slides of the same size class where that is known: macrometastasis when an
outline of it is longer than 2 mm. Tissue and scores are modelled as in `bench.paper.slide_geometry` and
`bench.paper.tile_scores` (*by share*, the paper's Table 2), thresholds are the optimum at a retention of 0.90 on the
270 slides of the training set.

The tissue's mean area is 42000 tiles a slide, the middle (as a ratio) of what is published: 8000 patches of 224 px at
20x, so 32000 at 40x (Li, Li, Eliceiri, DSMIL, CVPR 2021; CAMELYON16), and 41802 patches of 256 px at 40x, so 54600 of
224 px (Lu et al., CLAM, Nat. Biomed. Eng. 2021; CAMELYON16 and 17). The paper's own reference run is 27091 tiles.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.command_line import OUTLINES
from bench.paper.busiest import played_run
from bench.paper.lesions import OUTLINE_MPP
from bench.paper.slide_geometry import LEVELS, TissueModel, build_geometry
from bench.paper.tile_scores import Noise, draw_tree, fit_to_accuracy
from pyramidai_mpi.simulate.forest import join, plant
from pyramidai_mpi.tuning.cohort import Cohort
from pyramidai_mpi.tuning.optimal import OptimalSearch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from bench.paper.slide_geometry import SlideGeometry
    from pyramidai_mpi.simulate.forest import Forest
    from pyramidai_mpi.truth.labelled_tree import LabelledTree

MEAN_TILES = 42_000
LABELS = OUTLINES.with_name("labels.csv")
MACRO_UM = 2000.0
RETENTION = 0.90
L0_THRESHOLD = 0.5


@dataclass(frozen=True)
class SlideTiles:
    """What a pyramidal run analyses of one slide.

    Attributes
    ----------
    level
        uint8 (N,), level of each tile.
    parent
        int32 (N,), row of its parent, -1 for a root.
    n_reference
        Tiles of the slide's reference run.
    """

    level: npt.NDArray[np.uint8]
    parent: npt.NDArray[np.int32]
    n_reference: int

    @classmethod
    def of(cls, tree: LabelledTree, thresholds: Sequence[float]) -> SlideTiles:
        """Play a pyramidal run of these thresholds."""
        return cls(*played_run(tree, thresholds), tree.n_reference_tiles)


@dataclass(frozen=True)
class SimulatedCohort:
    """Slides as what their pyramidal and reference runs analyse.

    Attributes
    ----------
    slides
        In the order of the list.
    retention
        Mean share of true positives kept on the slides that chose no threshold.
    tumor_slides
        Slides with tumour.
    """

    slides: tuple[SlideTiles, ...]
    retention: float
    tumor_slides: int

    @cached_property
    def analysed(self) -> tuple[int, ...]:
        """Tiles of each level of the pyramidal runs, level 0 first."""
        return tuple(np.sum([np.bincount(slide.level, minlength=LEVELS) for slide in self.slides], axis=0).tolist())

    @cached_property
    def n_reference(self) -> int:
        """Tiles of the reference runs."""
        return sum(slide.n_reference for slide in self.slides)

    def pyramid(self) -> Forest:
        """The pyramidal runs of all slides as one pool; each slide's opening is a task."""
        return join([plant(slide.level, slide.parent) for slide in self.slides]).with_openings()

    def reference(self) -> Forest:
        """The reference runs, likewise: all their tiles come from the opening."""
        bare = [plant(np.zeros(n, np.uint8), np.full(n, -1)) for n in (slide.n_reference for slide in self.slides)]
        return join(bare).with_openings()


def build_cohort(outlines: dict[str, Any], labels: Path, *, mean_tiles: float = MEAN_TILES) -> SimulatedCohort:
    """All slides of a list (columns ``filenames``, ``tumor``; sizes of tumours in ``reference.csv`` beside it)."""
    slides = outlines_of_slides(outlines, labels)
    tissue = TissueModel(mean_tiles=mean_tiles)
    geometries = [build_geometry(name, rings, tissue) for name, rings in slides.items()]
    return play_cohort(geometries, test=[name.startswith("test") for name in slides])


def play_cohort(geometries: Sequence[SlideGeometry], test: Sequence[bool]) -> SimulatedCohort:
    """Draw scores, choose thresholds on the slides that are no `test` slides, and play all slides' pyramidal runs."""
    model = fit_to_accuracy(geometries, noise=Noise())
    trees = [draw_tree(geometry, model) for geometry in geometries]
    train = tuple(tree for tree, is_test in zip(trees, test, strict=True) if not is_test)
    thresholds = OptimalSearch(Cohort(train, L0_THRESHOLD)).choose(RETENTION).measured.thresholds
    kept = [tree.cost_of(thresholds).retention for tree, is_test in zip(trees, test, strict=True) if is_test]
    with_tumor = sum(bool(geometry.levels[0].tumor.any()) for geometry in geometries)
    return SimulatedCohort(
        tuple(SlideTiles.of(tree, thresholds) for tree in trees), float(np.nanmean(kept)), with_tumor
    )


def outlines_of_slides(outlines: dict[str, Any], labels: Path) -> dict[str, Any]:
    """Outlines of each slide of the list, in its order; none for a slide without tumour."""
    if not labels.is_file():
        raise SystemExit(f"no list of slides at {labels}: name one with --labels (columns filenames, tumor)")
    with labels.open(newline="") as file:
        tumor = {row["filenames"].split(".")[0]: row["tumor"] == "True" for row in csv.DictReader(file)}
    sizes: dict[str, str] = {}
    if (reference := labels.with_name("reference.csv")).is_file():
        with reference.open(newline="") as file:
            sizes = {row[0]: row[-1] for row in csv.reader(file) if len(row) > 1}
    by_class: dict[str, list[str]] = {"Macro": [], "Micro": []}
    for name, rings in sorted(outlines.items()):
        by_class["Macro" if _longest_um(rings) > MACRO_UM else "Micro"].append(name)
    rng = np.random.default_rng(0)
    slides: dict[str, Any] = {}
    for name, has_tumor in tumor.items():
        if not has_tumor:
            slides[name] = {}
        elif name in outlines:
            slides[name] = outlines[name]
        else:
            among = by_class.get(sizes.get(name, ""), []) or sorted(outlines)
            slides[name] = outlines[among[rng.integers(len(among))]]
    return slides


def _longest_um(rings: dict[str, Any]) -> float:
    """Longest side of the box round any outline, in um."""
    return max((float(np.ptp(np.asarray(ring), axis=0).max()) * OUTLINE_MPP for ring in rings["positive"]), default=0.0)
