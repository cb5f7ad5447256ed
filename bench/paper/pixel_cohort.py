"""The cohort of pixels: generated slides over CAMELYON16 outlines, analysed exhaustively by real networks.

    python -m bench.paper.pixel_cohort --work FOLDER [--outlines FILE] [--model DIR] [--tumor 16] [--free 8] [--side
        9000]

Slides with lesions carry the outlines of one CAMELYON16 slide each, at their real size where they fit the slide. Those
that would have to be shrunk to less than half are left out (most are: these slides are 2 mm wide), and of the rest as
many as are asked for are taken at even steps of the lesions' area. What is in the folder already is used again. All
runs go through ``mpirun -n 2 python -m pyramidai_mpi``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.command_line import Options, command_line
from bench.on_ranks import run_program
from bench.paper.lesions import load_outlines
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import Region, SynthSpec, fit_regions, read_regions, write_slide
from pyramidai_mpi.synth.polygons import CAMELYON_MPP, ring_area

if TYPE_CHECKING:
    import argparse

MPP = 0.25
FIRST_SEED = 700_000
"""Training drew slides from seed 1000 on, other benches use 500000 on."""
SMALLEST_SCALE = 0.5


@dataclass(frozen=True)
class PixelSlide:
    """One slide with its truth and its exhaustive run.

    Attributes
    ----------
    slide, result
        Files; the truth lies beside the slide as GeoJSON.
    outlines
        The CAMELYON16 slide that its lesions come from; None for a tumour-free one.
    scale
        Size of its lesions over their real size.
    """

    slide: Path
    result: Path
    outlines: str | None
    scale: float


@dataclass(frozen=True)
class PixelCohort:
    """Slides in two halves, with lesions of like areas and as many tumour-free ones in each."""

    train: tuple[PixelSlide, ...]
    test: tuple[PixelSlide, ...]

    @property
    def slides(self) -> tuple[PixelSlide, ...]:
        """All of them."""
        return self.train + self.test


def choose_lesions(outlines: dict[str, Any], n: int, side: int) -> list[tuple[str, float]]:
    """Names of `n` slides by growing area of their lesions as they will be drawn, and the scales that fit them."""
    fitting = []
    for name, rings in outlines.items():
        points = np.concatenate([np.asarray(ring, np.float64) for ring in rings["positive"]])
        real = CAMELYON_MPP / MPP
        scale = min(real, 0.8 * side / float(np.ptp(points, axis=0).max())) / real
        if scale >= SMALLEST_SCALE:
            areas = {kind: sum(ring_area(_points(ring)) for ring in rings[kind]) for kind in ("positive", "negative")}
            fitting.append(((areas["positive"] - areas["negative"]) * scale**2, name, scale))
    fitting.sort()
    chosen = np.unique(np.rint(np.linspace(0, len(fitting) - 1, n)).astype(int)).tolist()
    return [(name, scale) for _, name, scale in (fitting[k] for k in chosen)]


def _points(ring: list[list[float]]) -> tuple[tuple[float, float], ...]:
    return tuple((point[0], point[1]) for point in ring)


def make_cohort(folder: Path, outlines: Path, *, tumor: int, free: int, side: int, model: Path) -> PixelCohort:
    """Write what is missing in the folder: slides, their truth and their exhaustive runs on two ranks."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen: list[tuple[str | None, float]] = [*choose_lesions(load_outlines(outlines), tumor, side)]
    chosen += [(None, 1.0)] * free
    slides = []
    for k, (name, scale) in enumerate(chosen):
        stem = name or f"free_{k - len(chosen) + free + 1:03}"
        slide = PixelSlide(folder / f"{stem}.tif", folder / f"{stem}.h5", name, scale)
        if not slide.slide.exists():
            regions: tuple[Region, ...] = ()
            if name is not None:
                regions = fit_regions(read_regions(outlines, name)[0], side, side, CAMELYON_MPP / MPP)
            spec = SynthSpec(side, side, seed=FIRST_SEED + k, mpp=MPP, regions=regions)
            write_slide(spec, slide.slide, overwrite=True)
        slides.append(slide)
    missing = [slide.slide for slide in slides if not slide.result.exists()]
    if missing:
        run_program(2, ["run", *missing, "--results-dir", folder, "--model", model, "--mode", "exhaustive"])
    return PixelCohort(tuple(slides[0::2]), tuple(slides[1::2]))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the cohort, for every bench that uses it."""
    parser.add_argument("--work", type=Path, required=True, help="folder for slides and results, reused when filled")
    parser.add_argument("--model", type=Path, default=None, help="model package; the shipped one unless given")
    parser.add_argument("--tumor", type=int, default=16, help="generated slides with lesions")
    parser.add_argument("--free", type=int, default=8, help="generated slides without")
    parser.add_argument("--side", type=int, default=9000, help="of the generated slides, pixels")


def cohort_of(options: Options) -> PixelCohort:
    """The cohort that the options ask for."""
    model = options.model or default_model()
    return make_cohort(
        options.work, options.outlines, tumor=options.tumor, free=options.free, side=options.side, model=model
    )


def main() -> None:
    """Make it and say what it is."""
    parser = command_line(__doc__, "outlines")
    add_options(parser)
    cohort = cohort_of(parser.parse_args())
    for half, slides in (("train", cohort.train), ("test", cohort.test)):
        for slide in slides:
            what = f"lesions of {slide.outlines} at {slide.scale:.2f} of their size" if slide.outlines else "no tumour"
            print(f"{half:5} {slide.result}  {what}")


if __name__ == "__main__":
    main()
