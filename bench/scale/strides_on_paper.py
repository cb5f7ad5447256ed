"""Windows at a stride over the 399 slides of CAMELYON16: core-hours of each way, beside the FDA's 133 034.

    python -m bench.scale.strides_on_paper --measure SLIDE --mpp 0.25 --network onnxruntime:MODEL ... [--costs FILE]
    python -m bench.scale.strides_on_paper --share NAME=RESULT.h5[,RESULT.h5...] ... [--costs FILE]
    python -m bench.scale.strides_on_paper [--costs FILE] [--cores 4000] [--mean-tiles N] [--every N] [--json FILE]

The first measures one core's costs on a real slide (`bench.scale.stride_costs`), the second reads from results which
share of the windows adaptive strides look at; both keep what they find in the file of costs and go on as the third.
Networks that are measured in `bench.scale.tile_costs` alone (InceptionV3) are taken from ``--engines``, without passes.

Slides and their tissue are those of `bench.scale.patches_on_paper`: as many tiles of 224 px as the FDA has patches.
A tile has (224 / stride)^2 windows. Core-hours are those of

- opening slides and finding tissue, `bench.scale.patch_costs`;
- *window*: reading, and each window by itself;
- *shared*: reading, and a pass for each block that holds a tile with tissue, also for its windows without;
- *adaptive*, at stride 16: reading, and the share of the windows that was seen, once for each share;
- *adaptive-shared*, at stride 16: likewise, and passes for the blocks that are refined.

Li, Mikailov and Chen (2023) give 133 034 h without colour normalisation, and 0.224 CPU-s a window from that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import Options, command_line
from bench.figures import Figure, print_table, report
from bench.paper.lesions import load_outlines
from bench.paper.slide_geometry import TILE_PX, TissueModel, build_geometry
from bench.scale.camelyon_cohort import LABELS, outlines_of_slides
from bench.scale.patch_costs import PatchCosts
from bench.scale.patches_on_paper import COSTS as PATCH_COSTS
from bench.scale.patches_on_paper import MEAN_TILES
from bench.scale.scaled_cohort import SLIDE_GIGAPIXELS
from bench.scale.scaling import COSTS as ENGINE_COSTS
from bench.scale.stride_costs import (
    ADAPTIVE_BLOCK,
    SHARED,
    STRIDES,
    NetworkCosts,
    StrideCosts,
    block_side,
    measure_stride_costs,
    share_of,
)
from bench.scale.tile_costs import MeasuredCosts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.paper.slide_geometry import SlideGeometry
    from bench.scale.stride_costs import Share

COSTS = Path(__file__).with_name("stride_costs.json")
CORES = 4000
NOTES = """
Comparable: the slides, their number of windows at a stride (tissue is modelled, for as many tiles as theirs), one CPU
core, processor time, no colour normalisation on either side.

Not comparable:
- Network: theirs is GoogLeNet (1.5e9 multiply-adds a window). InceptionV3 has 2.84e9; small and small-valid are far
  smaller ones that were trained on generated slides, and say nothing of how a network of GoogLeNet's size would score.
- Machine: theirs are cores of before 2023 under Keras, and 0.224 s holds all that a job did: start, reading of raw
  patches, waiting for the file system. It is an upper bound. Ours are one core's processor seconds of reading and
  computing, on a machine with two, its slide in memory.
- Colour normalisation, in their other figure (162 176 h), is a fifth more; it is in none of ours.
- Tissue rule: theirs is Otsu on hue and saturation of a thumbnail; ours decides which tiles, here for as many of them.
- What adaptive strides leave out depends on the scores. Shares are those of the results that are named, by the demo
  network; one that is unsure on real tissue looks at half of all windows and more.
- Scheduling, writing and lost time are not in it: some 3 % and seconds a slide by `bench.scale.scaling`.
"""


@dataclass(frozen=True)
class Published:
    """What Li, Mikailov and Chen (2023) report of their predictions at stride 16."""

    hours: float = 133_034
    normalised_hours: float = 162_176
    window_s: float = 0.224
    cores_hours: float = 34
    cores: int = 4000

    @property
    def windows(self) -> float:
        """Their number, at most, from these."""
        return self.hours * 3600 / self.window_s


FDA = Published()


@dataclass(frozen=True)
class StrideWork:
    """What there is to do on all slides.

    Attributes
    ----------
    slides, tiles
        How many, of 224 px with tissue.
    blocks
        By stride, blocks of one pass with any such tile in them.
    """

    slides: int
    tiles: int
    blocks: dict[int, int]

    def windows(self, stride: int) -> float:
        """Windows of a stride in all tiles."""
        return self.tiles * (TILE_PX / stride) ** 2

    def of_all(self, slides: int) -> StrideWork:
        """As much a slide, for so many slides."""
        times = slides / self.slides
        blocks = {stride: round(n * times) for stride, n in self.blocks.items()}
        return StrideWork(slides, round(self.tiles * times), blocks)


def work_of(geometries: Sequence[SlideGeometry]) -> StrideWork:
    """Count tiles, and the blocks that hold any."""
    blocks = dict.fromkeys(SHARED, 0)
    tiles = 0
    for geometry in geometries:
        index = geometry.levels[0].index.astype(np.int64)
        tiles += len(index)
        for stride in blocks:
            side = block_side(stride) * stride
            first, last = index * TILE_PX // side, ((index + 1) * TILE_PX - 1) // side
            # blocks are wider than tiles, so that a tile lies in up to four of them
            corners = [x[:, 0] << 32 | y[:, 1] for x in (first, last) for y in (first, last)]
            blocks[stride] += len(np.unique(np.concatenate(corners)))
    return StrideWork(len(geometries), tiles, blocks)


@dataclass(frozen=True)
class Way:
    """One way to compute the windows of one stride: core-hours for all slides."""

    network: str
    way: str
    stride: int
    hours: float


def ways(work: StrideWork, costs: StrideCosts, opening_s: float) -> Iterator[Way]:
    """Every way of every network.

    Parameters
    ----------
    work, costs
        What there is to do, and what it costs.
    opening_s
        Seconds to open a slide and find its tissue.
    """
    base_s = work.slides * opening_s + work.tiles * costs.read_s
    for network in costs.networks:
        for stride in STRIDES:
            n_windows = work.windows(stride)
            yield Way(network.name, "window", stride, (base_s + n_windows * network.window_s) / 3600)
            a_pass = network.pass_s.get(f"{stride} x {block_side(stride)}")
            if a_pass is not None and stride in work.blocks:
                yield Way(network.name, "shared", stride, (base_s + work.blocks[stride] * a_pass) / 3600)
        for share in costs.shares:
            stride = STRIDES[0]
            seconds = work.windows(stride) / share.n_all * share.windows * network.window_s
            if not share.passes:
                yield Way(network.name, f"adaptive, {share.name}", stride, (base_s + seconds) / 3600)
            elif (a_pass := network.pass_s.get(f"{stride} x {ADAPTIVE_BLOCK}")) is not None:
                seconds += work.windows(stride) / share.n_all * share.passes / ADAPTIVE_BLOCK**2 * a_pass
                yield Way(network.name, f"adaptive-shared, {share.name}", stride, (base_s + seconds) / 3600)


def table(found: Sequence[Way], cores: int) -> Iterator[tuple[str, ...]]:
    """A row for each network and way, with a column for each stride."""
    cells = {(one.network, one.way, one.stride): one.hours for one in found}
    finest = STRIDES[0]
    for network, way in dict.fromkeys((one.network, one.way) for one in found):
        hours = [cells.get((network, way, stride)) for stride in STRIDES]
        at_finest = cells[network, way, finest]
        yield (
            network,
            way,
            *("" if one is None else f"{one:.4g}" for one in hours),
            f"{FDA.hours / at_finest:.4g}",
            f"{at_finest / cores:.3g}",
        )


def with_engines(costs: StrideCosts, measured: MeasuredCosts) -> StrideCosts:
    """The same, with the engines of another measurement whose names are not there."""
    known = {network.name for network in costs.networks}
    others = (NetworkCosts(e.name, e.infer_s[0], {}) for e in measured.engines if e.name not in known)
    return replace(costs, networks=(*costs.networks, *others))


def with_shares(costs: StrideCosts, shares: Sequence[Share]) -> StrideCosts:
    """The same, with shares in the place of those of their name."""
    names = {share.name for share in shares}
    return replace(costs, shares=(*(share for share in costs.shares if share.name not in names), *shares))


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--measure", type=Path, metavar="SLIDE", help="measure the costs first, on this slide")
    parser.add_argument("--network", action="append", metavar="LIBRARY:MODEL", help="to measure; several times")
    parser.add_argument("--mpp", type=float, help="of the slide, if it does not say")
    parser.add_argument("--share", action="append", default=[], metavar="NAME=RESULT[,RESULT]", help="of adaptive runs")
    parser.add_argument("--costs", type=Path, default=COSTS, help="JSON of costs, written or read")
    parser.add_argument("--engines", type=Path, default=ENGINE_COSTS, help="JSON of bench.scale.scaling")
    parser.add_argument("--cores", type=int, default=CORES, help="that share the work evenly, in the last column")
    parser.add_argument("--labels", type=Path, default=LABELS, help="CSV of the slides")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="count on every N-th slide, for all")
    parser.add_argument("--mean-tiles", type=float, default=MEAN_TILES, help="mean tissue of a slide, in tiles")
    options = parser.parse_args()
    if options.measure is not None and not options.network:
        parser.error("--measure needs at least one --network LIBRARY:MODEL")
    if any("=" not in share for share in options.share):
        parser.error("--share: expected NAME=RESULT.h5[,RESULT.h5...]")
    return options


def main() -> None:
    """Measure if asked to, count, print."""
    options = parse_arguments()
    if options.measure is not None:
        networks = [(library, Path(model)) for library, model in (one.split(":", 1) for one in options.network)]
        shares = StrideCosts.load(options.costs).shares if options.costs.is_file() else ()
        replace(measure_stride_costs(options.measure, options.mpp, networks), shares=shares).save(options.costs)
    costs = StrideCosts.load(options.costs)
    if options.share:
        pairs = [share.split("=", 1) for share in options.share]
        costs = with_shares(costs, [share_of(name, [Path(p) for p in paths.split(",")]) for name, paths in pairs])
        costs.save(options.costs)
    patches = PatchCosts.load(PATCH_COSTS)
    opening_s = patches.opening_s + SLIDE_GIGAPIXELS * patches.tissue_s_per_gigapixel
    slides = outlines_of_slides(load_outlines(options.outlines), options.labels)
    tissue = TissueModel(mean_tiles=options.mean_tiles)
    some = list(slides.items())[:: options.every]
    work = work_of([build_geometry(name, rings, tissue) for name, rings in some]).of_all(len(slides))
    engines = MeasuredCosts.load(options.engines)
    found = list(ways(work, with_engines(costs, engines), opening_s))
    figures = [Figure("windows", work.windows(stride), "", {"stride": stride}) for stride in STRIDES]
    settings = ({"network": one.network, "way": one.way, "stride": one.stride} for one in found)
    figures += [Figure("core-hours", one.hours, "h", setting) for one, setting in zip(found, settings, strict=True)]
    report(figures, options.json)
    print(
        f"\n{work.slides} slides, {work.tiles} tiles of tissue, {work.windows(16) / 1e6:.0f} million windows at stride"
    )
    print(f"16 (theirs, at most: {FDA.windows / 1e6:.0f}). Costs: {costs.machine}, {costs.slide};")
    print(f"{1e3 * costs.read_s:.2f} ms to read a tile's windows; engines without passes: {engines.slide.machine}.\n")
    strides = [f"stride {stride}" for stride in STRIDES]
    heads = ["network", "way", *strides, "133 034 h / this, stride 16", f"hours on {options.cores} cores, stride 16"]
    theirs = ("GoogLeNet", "Li, Mikailov, Chen 2023", f"{FDA.hours:.0f}", "", "", "", "1", f"{FDA.cores_hours}")
    print_table(heads, [theirs, *table(found, options.cores)])
    print(NOTES)


if __name__ == "__main__":
    main()
