"""Strides in steps against all windows at stride 16: lesions of CAMELYON16 on generated slides, by real runs.

    python -m bench.paper.adaptive --work FOLDER [--quick] [--outlines FILE] [--model DIR] [--side 4096] [--json FILE]

For each slide one run looks at every window (``run --mode reference --stride 16``) and one in steps (``--stride-mode
adaptive``), both on two ranks. What lies in the folder from a run that was stopped is used again. The first table has
the two beside each other, slide by slide: windows, how far the maps agree, lesions and places. The second has other
bands and strides, played on the full maps (`pyramid.refined_map`): what `tune --band` chooses from. Slides differ in
seed, in the number of lesions, and in their size, from isolated cells to most of the tissue.

FROC is over all slides together by the rules of CAMELYON16, from places picked on the maps at their own resolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import Options, command_line
from bench.figures import Figure, print_table, report
from bench.on_ranks import run_program
from pyramidai_mpi.evaluation.dense import Agreement, compare_maps
from pyramidai_mpi.evaluation.detections import find_on_map
from pyramidai_mpi.evaluation.froc import froc_curve, judge
from pyramidai_mpi.evaluation.lesions import MASK_DOWNSAMPLE, find_lesions
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.pyramid.refining import Band
from pyramidai_mpi.pyramid.tree import ExecutionTree
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result, read_levels
from pyramidai_mpi.store.results.tables import read_header
from pyramidai_mpi.synth import Region, SynthSpec, fit_regions, read_regions, write_slide
from pyramidai_mpi.synth.polygons import CAMELYON_MPP
from pyramidai_mpi.truth.coverage import UNIT
from pyramidai_mpi.truth.truth import read_truth
from pyramidai_mpi.tuning.band_play import try_band
from pyramidai_mpi.tuning.full_maps import read_full_maps

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.evaluation.froc import Findings
    from pyramidai_mpi.tuning.full_maps import FullMaps

MPP = 0.25
STRIDE = 16
SLIDES: tuple[tuple[int, str | None], ...] = (
    (1, "tumor_043"),  # one lesion of 0.14 mm
    (1, "tumor_066"),
    (2, "tumor_098"),  # five small ones
    (2, "tumor_019"),
    (3, "tumor_005"),
    (3, "tumor_041"),
    (4, "tumor_008"),  # seven small ones
    (4, "tumor_100"),
    (5, "tumor_099"),  # 92 outlines
    (5, "tumor_042"),  # most of the tissue
    (6, None),
)
"""Seed of the slide, and whose lesions it has, at their own size where they fit it."""

QUICK = ((1, "tumor_043"), (2, "tumor_098"))
QUICK_SIDE = 1536

FAMILIES = ((16, 32, 64, 128), (16, 32, 64), (16, 64, 128), (16, 48, 96), (16, 112), (16, 224))
BANDS = (Band(0.1, 0.9, 0.3), Band(0.2, 0.8, 0.3), Band(0.3, 0.8, 0.3), Band(0.2, 0.8, 0.5), Band(0.55, 0.55, 0.3))


@dataclass(frozen=True)
class Compared:
    """One slide, all windows and steps.

    Attributes
    ----------
    name
        Of the slide.
    share
        Windows looked at in steps over all windows, rings included.
    agreement
        Of the two maps.
    n_found, n_kept
        Lesions that all windows find, and those of them that steps find: any positive cell touches them.
    positive
        Share of all windows that are positive.
    full, steps
        Places on either map, judged.
    """

    name: str
    share: float
    agreement: Agreement
    n_found: int
    n_kept: int
    positive: float
    full: Findings
    steps: Findings


def write_slides(folder: Path, outlines: Path, slides: Sequence[tuple[int, str | None]], side: int) -> list[Path]:
    """Slides with their truth, those that are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for seed, name in slides:
        path = folder / f"seed{seed}_{name or 'free'}.tif"
        if not path.exists():
            regions: tuple[Region, ...] = ()
            if name is not None:
                regions = fit_regions(read_regions(outlines, name)[0], side, side, CAMELYON_MPP / MPP)
            write_slide(SynthSpec(side, side, seed=seed, mpp=MPP, regions=regions), path, overwrite=True)
        paths.append(path)
    return paths


def run_both(slides: Sequence[Path], model: Path) -> tuple[list[Path], list[Path]]:
    """Results of all windows and of steps, those that are missing made."""
    results = []
    for mode, name in (("window", "full"), ("adaptive", "steps")):
        folder = slides[0].parent / name
        folder.mkdir(exist_ok=True)
        wanted = [folder / f"{slide.stem}.h5" for slide in slides]
        missing = [slide for slide, result in zip(slides, wanted, strict=True) if not result.exists()]
        if missing:
            how = ["--mode", "reference", "--stride", str(STRIDE), "--stride-mode", mode, "--model", model]
            run_program(2, ["run", *missing, "--results-dir", folder, *how])
        results.append(wanted)
    return results[0], results[1]


def compare(slide: Path, full: Path, steps: Path) -> Compared:
    """The two results of one slide beside each other and its truth."""
    with open_result(full) as file:
        every, header = read_dense_map(file), read_header(file)
    with open_result(steps) as file:
        refined = read_dense_map(file)
        looked = ExecutionTree(read_levels(file)).n_windows
    slide_maps = read_full_maps([full], slide.parent).slides[0]
    before, after = (passes(one.score, one.threshold) & (one.stride > 0) for one in (every, refined))
    found, kept = slide_maps.lesions_found(before), slide_maps.lesions_found(after)
    truth = read_truth(slide.parent, slide.name, header.slide.l0_size)
    width, height = (-(-extent // MASK_DOWNSAMPLE) for extent in header.slide.l0_size)
    lesions = find_lesions(truth.coverage((height, width), MASK_DOWNSAMPLE) * 2 >= UNIT, header.slide.mpp)
    n_all = int((every.stride > 0).sum())
    return Compared(
        slide.stem,
        looked / n_all,
        compare_maps(refined, every),
        int(found.sum()),
        int((found & kept).sum()),
        float(before.sum() / n_all),
        *(judge(find_on_map(one), lesions) for one in (every, refined)),
    )


def slide_rows(compared: Sequence[Compared]) -> Iterator[tuple[str, ...]]:
    """A row a slide."""
    for one in compared:
        yield (
            one.name,
            f"{one.positive:.1%}",
            f"1/{1 / one.share:.1f}",
            f"{one.agreement.iou:.4f}",
            f"{one.agreement.share:.4f}",
            f"{one.n_kept} of {one.n_found}",
            f"{len(one.steps.false_score)} / {len(one.full.false_score)}",
        )


def played_rows(maps: FullMaps) -> Iterator[tuple[str, ...]]:
    """A row a family of strides and band."""
    for strides in FAMILIES:
        for band in BANDS:
            trial = try_band(maps.slides, strides, band)
            n_found = sum(one.n_found for one in trial.slides)
            yield (
                ", ".join(map(str, strides)),
                f"{band.low:g}, {band.high:g}, {band.step:g}",
                f"1/{1 / trial.share:.1f}",
                f"1/{1 / trial.worst_share:.1f}",
                f"{trial.iou:.4f}",
                f"{trial.worst_iou:.4f}",
                f"{n_found - trial.n_lesions_lost} of {n_found}",
            )


def figures_of(compared: Sequence[Compared]) -> list[Figure]:
    """What the whole cohort says."""
    full, steps = (froc_curve([getattr(one, name) for one in compared]) for name in ("full", "steps"))
    shares = [one.share for one in compared]
    iou = [one.agreement.iou for one in compared if one.agreement.n_either]
    return [
        Figure("windows in steps over all, mean", float(np.mean(shares)), "", {"as": f"1/{1 / np.mean(shares):.2f}"}),
        Figure("windows in steps over all, worst", max(shares), "", {"as": f"1/{1 / max(shares):.2f}"}),
        Figure("IoU of the two maps, mean", float(np.mean(iou)), "", {"lowest": round(min(iou), 4)}),
        Figure("FROC score of all windows", full.score, ""),
        Figure("FROC score in steps", steps.score, "", {"difference": round(steps.score - full.score, 4)}),
    ]


def add_up(options: Options) -> None:
    """Make what is missing, and print it all."""
    slides = QUICK if options.quick else SLIDES
    side = QUICK_SIDE if options.quick else options.side
    paths = write_slides(options.work / f"{side}", options.outlines, slides, side)
    full, steps = run_both(paths, options.model or default_model())
    compared = [compare(*three) for three in zip(paths, full, steps, strict=True)]
    heads = ("slide", "positive", "windows", "IoU", "agreement", "lesions kept", "false places, steps / all")
    print_table(heads, slide_rows(compared))
    print()
    report(figures_of(compared), options.json)
    print()
    maps = read_full_maps(full, paths[0].parent)
    heads = ("strides", "low, high, step", "windows", "worst", "IoU", "lowest", "lesions kept")
    print_table(heads, played_rows(maps))


def main() -> None:
    """Read the command line and run."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides and results, reused when filled")
    parser.add_argument("--model", type=Path, help="model package; the shipped one unless given")
    parser.add_argument("--side", type=int, default=4096, help="of the generated slides, pixels")
    parser.add_argument("--quick", action="store_true", help="two small slides: does it run?")
    add_up(parser.parse_args())


if __name__ == "__main__":
    main()
