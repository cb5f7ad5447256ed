"""Patches of the 399 slides of CAMELYON16: what the FDA's pipeline made of them, beside what this program would.

    python -m bench.scale.patches_on_paper --measure SLIDE --mpp 0.25 [--costs FILE]
    python -m bench.scale.patches_on_paper [--costs FILE] [--mean-tiles N] [--json FILE]

Patches of 448 px at every 224 px of tissue at level 0, as Li, Mikailov and Chen (2023) have them. The first measures
one core's costs on a real slide (`bench.scale.patch_costs`) and goes on as the second: slides are those of
`bench.scale.camelyon_cohort`, outlines in modelled tissue; each of its level-0 tiles is a patch, and stored tiles are
counted that their windows meet. Bytes and processor hours follow:

- *stored*: opening, tissue, a row a patch; each stored tile once, its bytes as on the measured slide;
- *none*: the same without tiles;
- *raw*: 3 * 448 * 448 bytes a patch; decoded by this program (each stored tile about once), or by OpenSlide as theirs,
  and written; the parts are measured apart.

By default there is as much tissue as theirs: 6076 GB of raw patches are 10.84 million if a GB is 2^30 bytes, and their
27 280 groups of 400, the last of each slide half full, are 10.83 million; so GB here are 2^30 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, print_table, report
from bench.paper.lesions import load_outlines
from bench.paper.slide_geometry import TILE_PX, TissueModel, build_geometry
from bench.scale.camelyon_cohort import LABELS, outlines_of_slides
from bench.scale.patch_costs import RAW_BYTES, SIZE, STRIDE, PatchCosts, measure_patch_costs
from bench.scale.scaled_cohort import SLIDE_GIGAPIXELS
from pyramidai_mpi.slides.readers.tile_mosaic import TileMosaic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.paper.slide_geometry import SlideGeometry

COSTS = Path(__file__).with_name("patch_costs.json")
STORED_TILE = 512
"""Of CAMELYON16's slides, in pixels."""
GIB = 2**30
MEAN_TILES = 26_050
"""Mean tissue of a slide before the lesions have their room: with it there are as many patches as theirs."""


@dataclass(frozen=True)
class Published:
    """What Li, Mikailov and Chen (2023) report."""

    slides: int = 399
    slides_bytes: float = 701 * GIB
    groups: int = 27_280
    patches_bytes: float = 6076 * GIB
    hours: float = 354

    @property
    def patches(self) -> float:
        """Their number, from the bytes."""
        return self.patches_bytes / RAW_BYTES


FDA = Published()


@dataclass(frozen=True)
class PatchWork:
    """What there is to do on all slides: slides, patches, stored tiles under their windows."""

    slides: int
    patches: int
    tiles: int


def work_of(geometries: Sequence[SlideGeometry]) -> PatchWork:
    """Count the patches of slides, and the stored tiles that they need."""
    assert TILE_PX == STRIDE
    patches = tiles = 0
    for geometry in geometries:
        index = geometry.levels[0].index.astype(np.int64)
        first = index * STRIDE - (SIZE - STRIDE) // 2
        extent = int(first.max()) + 2 * SIZE
        mosaic = TileMosaic((extent, extent), (STORED_TILE, STORED_TILE))
        spans = (np.stack([first[:, axis], first[:, axis] + SIZE], axis=1) for axis in (0, 1))
        patches += len(index)
        tiles += len(mosaic.tiles_in_any(*spans))
    return PatchWork(len(geometries), patches, tiles)


@dataclass(frozen=True)
class Way:
    """One way to keep patches: bytes and processor hours for all slides."""

    name: str
    n_bytes: float
    hours: float


def ways(work: PatchWork, costs: PatchCosts) -> Iterator[Way]:
    """Every way, for so much work."""
    opening_s = work.slides * (costs.opening_s + SLIDE_GIGAPIXELS * costs.tissue_s_per_gigapixel)
    rows_s, rows = opening_s + work.patches * costs.cell_s, work.patches * costs.row_bytes
    kept_s = rows_s + work.tiles * costs.kept_tile_s
    yield Way("stored tiles", rows + work.tiles * costs.kept_tile_bytes, kept_s / 3600)
    yield Way("no pixels", rows, rows_s / 3600)
    for name, pixels_s in (("raw", costs.decoded_s), ("raw, decoded by OpenSlide", costs.openslide_s)):
        yield Way(name, work.patches * RAW_BYTES, (rows_s + work.patches * (pixels_s + costs.written_s)) / 3600)


def main() -> None:
    """Measure if asked to, count, print."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--measure", type=Path, metavar="SLIDE", help="measure the costs first, on this slide")
    parser.add_argument("--mpp", type=float, help="of the slide, if it does not say")
    parser.add_argument("--costs", type=Path, default=COSTS, help="JSON of costs, written or read")
    parser.add_argument("--labels", type=Path, default=LABELS, help="CSV of the slides")
    parser.add_argument("--mean-tiles", type=float, default=MEAN_TILES, help="mean tissue of a slide, in patches")
    options = parser.parse_args()
    if options.measure is not None:
        measure_patch_costs(options.measure, options.mpp).save(options.costs)
    costs = PatchCosts.load(options.costs)
    slides = outlines_of_slides(load_outlines(options.outlines), options.labels)
    tissue = TissueModel(mean_tiles=options.mean_tiles)
    work = work_of([build_geometry(name, rings, tissue) for name, rings in slides.items()])
    found = list(ways(work, costs))
    figures = [Figure("patches", work.patches, ""), Figure("stored tiles", work.tiles, "")]
    for way in found:
        figures += [Figure("files", way.n_bytes / GIB, "GB", {"way": way.name})]
        figures += [Figure("processor", way.hours, "h", {"way": way.name})]
    report(figures, options.json)
    print(f"\n{costs}\n\n{work.slides} slides, {work.patches} patches over {work.tiles} stored tiles\n")
    rows = [("Li, Mikailov, Chen 2023, published", f"{FDA.patches / 1e6:.2f}", 6076, 354, "", "")]
    print_table(
        ["", "million patches", "GB (2^30)", "CPU h", "GB, published / this", "CPU h, published / this"],
        rows
        + [
            (
                way.name,
                f"{work.patches / 1e6:.2f}",
                f"{way.n_bytes / GIB:.3g}",
                f"{way.hours:.3g}",
                f"{FDA.patches_bytes / way.n_bytes:.3g}",
                f"{FDA.hours / way.hours:.3g}",
            )
            for way in found
        ],
    )


if __name__ == "__main__":
    main()
