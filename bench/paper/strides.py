"""The FDA's Tables IV and V beside ours: telling tumour slides and finding lesions, by how far apart windows lie.

    python -m bench.paper.strides [--quick] [--work FOLDER] [--outlines FILE] [--model DIR] [--seeds 1 2 3 4 5]
        [--tumor 4] [--free 4] [--side 4096] [--ranks 1] [--json FILE]

Li, Mikailov and Chen (2023) scored a window around every 16th pixel of CAMELYON16, and took coarser strides out of that
map. Here the program's own runs do the same on generated slides over CAMELYON16 outlines: one run at every 16 px, of
whose map the coarser strides are parts, to the bit; and one of adaptive strides, 128 to 16, beside it. ``--quick`` is
one seed of two slides of either kind, a minute and a half of one core; too few for figures, enough to see it work.
What is in the folder already is used again. What differs from theirs is said below the tables.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import Options, command_line
from bench.figures import Figure, print_table
from bench.on_ranks import run_program
from bench.paper.lesions import SLIDE_UM, load_outlines
from bench.paper.pixel_cohort import MPP, SMALLEST_SCALE, choose_lesions
from pyramidai_mpi.classification.classifier import cross_validate, judge_slides
from pyramidai_mpi.classification.features import FeatureKind
from pyramidai_mpi.classification.score_map import read_score_map
from pyramidai_mpi.evaluation.dense import evaluate_dense_cohort
from pyramidai_mpi.evaluation.dense_results import evaluate_dense_runs, group_dense_runs, read_dense_run
from pyramidai_mpi.evaluation.froc import FALSE_POSITIVES_A_SLIDE
from pyramidai_mpi.evaluation.slide import DetectionRule
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import Region, SynthSpec, fit_regions, read_regions, write_slide
from pyramidai_mpi.synth.polygons import CAMELYON_MPP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.evaluation.bootstrap import Estimate
    from pyramidai_mpi.evaluation.dense import DenseCohort, MapFigures

STRIDE = 16
FIRST_SEED = 900_000
"""Training drew slides from seed 1000 on, other benches use 500000 and 700000 on."""


@dataclass(frozen=True)
class Published:
    """What the FDA's tables say of a stride.

    Attributes
    ----------
    auc, auc_normalised
        Table IV: area under the ROC curve of slides, without and with normalised colours.
    froc
        Table V: mean sensitivity at 1/4 to 8 false positives a slide.
    """

    auc: float
    auc_normalised: float
    froc: float


FDA = {
    16: Published(0.902, 0.974, 0.694),
    64: Published(0.902, 0.991, 0.651),
    128: Published(0.913, 0.981, 0.590),
    224: Published(0.893, 0.975, 0.547),
}
ADAPTIVE = f"adaptive, stride {STRIDE}"
_FEWEST_FOR_FOREST = 10
"""Slides of either kind from which on a forest of 30 features is fitted: with fewer its area says nothing."""


@dataclass(frozen=True)
class Plan:
    """How many slides, and how large.

    Attributes
    ----------
    seeds
        Each gives as many slides as the next two say.
    tumor, free
        Slides with lesions and without.
    side
        Of the slides in pixels of 0.25 µm.
    """

    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    tumor: int = 4
    free: int = 4
    side: int = 4096


QUICK = Plan((1,), 2, 2, 1536)


def write_cohort(plan: Plan, folder: Path, outlines: Path) -> list[Path]:
    """Write the slides that are missing, each with its truth beside it; those with lesions have ``tumor`` in the name.

    Lesions are dealt to the seeds by their areas, so that each has small and large ones.
    """
    chosen = choose_lesions(load_outlines(outlines), plan.tumor * len(plan.seeds), plan.side)
    slides = []
    for place, seed in enumerate(plan.seeds):
        lesions: list[tuple[str, float] | None] = [*chosen[place :: len(plan.seeds)], *([None] * plan.free)]
        for k, lesion in enumerate(lesions):
            slide = folder / f"{seed}_{'free' if lesion is None else 'tumor'}_{k:02}.tif"
            slides.append(slide)
            if slide.exists():
                continue
            regions: tuple[Region, ...] = ()
            if lesion is not None:
                regions = fit_regions(read_regions(outlines, lesion[0])[0], plan.side, plan.side, CAMELYON_MPP / MPP)
            spec = SynthSpec(
                plan.side, plan.side, seed=FIRST_SEED + 1000 * seed + k, mpp=MPP, tumor_share=0.0, regions=regions
            )
            write_slide(spec, slide, overwrite=True)
    return slides


def run_at_strides(slides: Sequence[Path], folder: Path, model: Path, ranks: int) -> list[Path]:
    """Results of all slides: at every `STRIDE` pixels, then at adaptive strides; missing ones are made."""
    results = []
    for mode in ("window", "adaptive"):
        into = folder / mode
        into.mkdir(exist_ok=True)
        made = [into / f"{slide.stem}.h5" for slide in slides]
        missing = [slide for slide, result in zip(slides, made, strict=True) if not result.exists()]
        words = ["--mode", "reference", "--stride", str(STRIDE), "--stride-mode", mode, "--model", model]
        if missing:
            run_program(ranks, ["run", *missing, "--results-dir", into, *words])
        results += made
    return results


def forest_areas(slides: Sequence[Path], folder: Path) -> dict[str, Estimate]:
    """Cross-validated area under the ROC curve of a random forest on 30 features of each kind of map."""
    tumor = np.array(["tumor" in slide.stem for slide in slides])
    if min(tumor.sum(), (~tumor).sum()) < _FEWEST_FOR_FOREST:
        return {}
    kinds: dict[str, tuple[str, int | None]] = {f"stride {stride}": ("window", stride) for stride in FDA}
    kinds[ADAPTIVE] = ("adaptive", None)
    areas = {}
    for name, (mode, stride) in kinds.items():
        maps = [read_score_map(folder / mode / f"{slide.stem}.h5", stride=stride) for slide in slides]
        areas[name] = judge_slides(cross_validate(maps, tumor, FeatureKind.HEATMAP), tumor).auc
    return areas


def table_4(cohort: DenseCohort, forest: dict[str, Estimate]) -> Iterator[tuple[object, ...]]:
    """Rows of Table IV: telling tumour slides from normal ones."""
    for one in cohort.maps:
        theirs = _published(one)
        yield (
            one.name,
            _three(theirs.auc if theirs else None),
            _three(theirs.auc_normalised if theirs else None),
            forest.get(one.name, "-"),
            one.slide_auc,
        )


def table_5(cohort: DenseCohort) -> Iterator[tuple[object, ...]]:
    """Rows of Table V: finding lesions."""
    most = max(one.n_windows for one in cohort.maps)
    for one in cohort.maps:
        theirs = _published(one)
        yield (
            one.name,
            f"1/{most / one.n_windows:.3g}",
            _three(theirs.froc if theirs else None),
            one.froc.score,
            *map(_three, one.froc.curve.at_rates.tolist()),
            _three(None if one.agreement is None else one.agreement.iou),
        )


def differences(cohort: DenseCohort, plan: Plan, model: str) -> Iterator[str]:
    """What differs between their figures and ours, line by line."""
    lesions = sum(one.n_lesions for one in cohort.slides)
    isolated = sum(one.n_isolated for one in cohort.slides)
    larger = SLIDE_UM[0] * SLIDE_UM[1] / (plan.side * MPP) ** 2
    yield (
        f"Slides: theirs are CAMELYON16's, judged on its test set; ours {len(cohort.slides)} generated ones of "
        f"{plan.side} x {plan.side} px with {lesions} lesions and {isolated} of isolated cells, outlines of the "
        f"training set at {SMALLEST_SCALE:g} to 1 of their size. A slide of theirs has {larger:.2g} times the area, so "
        "much more room for false positives."
    )
    yield (
        f"Network: theirs is GoogLeNet, trained on CAMELYON16; ours is the package {model}. Heights do not compare; "
        "what does is how figures change from stride to stride."
    )
    yield (
        "Places: by their scripts regions of score > 0.9, closed and opened by an ellipse of 20 px of the map, at "
        "their centroid, with the mean score of two networks; ours are local maxima within "
        f"{cohort.rule.radius_um:g} µm, at the window's centre, of scores from the network's threshold on."
    )
    yield "Lesions, isolated cells and the score are CAMELYON16's rules in both."
    yield (
        "Slide AUC: a random forest on 30 features of the map in both; theirs fitted on the training set, ours "
        "cross-validated. Beside it the area by the map's highest score alone."
    )
    yield "Strides: in both, coarser ones are parts of the map at stride 16. Adaptive strides are a run of their own."
    yield "Not here: the sensitivities of their Table V."


def _published(one: MapFigures) -> Published | None:
    return FDA[one.strides[0]] if one.name == f"stride {one.strides[0]}" else None


def _three(value: float | None) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.3f}"


def figures_of(cohort: DenseCohort, forest: dict[str, Estimate], plan: Plan) -> list[Figure]:
    """All of ours that are defined, for the JSON file."""
    found = []
    for one in cohort.maps:
        setting = {"map": one.name, **asdict(plan)}
        values = {
            "windows": one.n_windows,
            "FROC": one.froc.score.value,
            "FROC, low": one.froc.score.low,
            "FROC, high": one.froc.score.high,
            "slide AUC, highest score": one.slide_auc.value,
            **({"slide AUC, forest": forest[one.name].value} if one.name in forest else {}),
            **({} if one.agreement is None else {"IoU": one.agreement.iou, "cells alike": one.agreement.share}),
        }
        found += [Figure(name, float(value), "", setting) for name, value in values.items() if not np.isnan(value)]
    return found


def compare(plan: Plan, folder: Path, options: Options) -> None:
    """Write slides, run, judge and print."""
    model = options.model or default_model()
    slides = write_cohort(plan, folder, options.outlines)
    runs = [read_dense_run(path) for path in run_at_strides(slides, folder, model, options.ranks)]
    rule = DetectionRule()
    judged = [evaluate_dense_runs(group, folder, rule, tuple(FDA)) for group in group_dense_runs(runs)]
    cohort = evaluate_dense_cohort(judged, rule)
    forest = forest_areas(slides, folder)
    print("Table IV: area under the ROC curve of slides\n")
    heads = ("windows", "FDA", "FDA, colours normalised", "ours, forest", "ours, highest score")
    print_table(heads, table_4(cohort, forest))
    print("\nTable V: finding lesions\n")
    rates = (f"{rate:g}/slide" for rate in FALSE_POSITIVES_A_SLIDE)
    print_table(("windows", "of the most", "FDA, score", "ours, score", *rates, "IoU"), table_5(cohort))
    print()
    for line in differences(cohort, plan, Path(model).name):
        print(f"- {line}")
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(one) for one in figures_of(cohort, forest, plan)], indent=1) + "\n")


def main() -> None:
    """Read the command line and compare."""
    plan = Plan()
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--quick", action="store_true", help="one seed of few small slides")
    parser.add_argument("--work", type=Path, help="folder for slides and results, reused when filled")
    parser.add_argument("--model", type=Path, default=None, help="model package; the shipped one unless given")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(plan.seeds))
    parser.add_argument("--tumor", type=int, default=plan.tumor, help="slides with lesions a seed")
    parser.add_argument("--free", type=int, default=plan.free, help="slides without a seed")
    parser.add_argument("--side", type=int, default=plan.side, help="of the slides, pixels")
    parser.add_argument("--ranks", type=int, default=1)
    options = parser.parse_args()
    plan = QUICK if options.quick else Plan(tuple(options.seeds), options.tumor, options.free, options.side)
    with tempfile.TemporaryDirectory() as own:
        folder = options.work or Path(own)
        folder.mkdir(parents=True, exist_ok=True)
        compare(plan, folder, options)


if __name__ == "__main__":
    main()
