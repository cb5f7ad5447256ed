"""Seconds and memory of whole runs against the number of tiles, up to a million.

    python -m bench.speed.cost [--quick] [--model DIR] [--plot bench/speed/cost] [--json FILE]

The real command under mpirun, on slides made of copies of one generated block (`bench.speed.mosaic`), all tiles of all
levels (``--mode exhaustive --no-tissue``), launch to end. Two models: networks that cost next to nothing on tiles of
32 px, so that what is seen is opening, reading, scheduling, the journal, gathering, the tree and the file; and the
shipped model on tiles of 224 px. ``--model`` adds another one on 336 and 3024 tiles. Processor seconds are those of all
processes, and what to go by when the machine does other things, too. Memory is that of the fullest rank, seen from
outside; growth is the slope of a rank's memory over all tiles of the run after the first fifth, that of the fastest
growing rank.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure as Plot

from bench.command_line import command_line
from bench.figures import Figure, report, save_plot
from bench.speed.mosaic import write_mosaic
from bench.speed.tiny_network import write_tiny_package
from bench.speed.watched_run import watch_run
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.store.results.reader import summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

_FEWEST_TILES = 3000
"""For a growth: before that, memory fills that is then used again and again."""


@dataclass(frozen=True)
class Series:
    """One model on slides of growing size.

    Attributes
    ----------
    name
        For tables and plots.
    model
        Its package.
    block, stored_tile
        See `write_mosaic`.
    repeats
        Copies of the block along each side of the slides.
    """

    name: str
    model: Path
    block: int
    stored_tile: int
    repeats: tuple[int, ...]


@dataclass(frozen=True)
class Point:
    """One slide of a series: medians over the repetitions, seconds, MB, and bytes a tile."""

    n_tiles: int
    wall_s: float
    cpu_s: float
    peak_mb: float
    growth_bytes: float


def measure(series: Series, repeats: int, ranks: int, repetitions: int, folder: Path) -> Point:
    """Run a model on one slide some times."""
    slide, output = folder / f"{repeats}.tif", folder / "out.h5"
    write_mosaic(slide, repeats, block=series.block, stored_tile=series.stored_tile)
    options = [slide, "--model", series.model, "--mode", "exhaustive", "--no-tissue", "--overwrite"]
    seen = [watch_run(ranks, options, output) for _ in range(repetitions)]
    n_tiles = sum(level.analysed for level in summarise(output).levels)
    slide.unlink()
    return Point(
        n_tiles,
        median(run.wall_s for run in seen),
        median(run.cpu_s for run in seen),
        median(float(run.memory()[0]) for run in seen),
        median(max(run.growth(n_tiles)) for run in seen),
    )


def figures_of(series: Series, points: Sequence[Point], ranks: int) -> list[Figure]:
    """Every point, and how the last two compare."""
    figures = []
    for point in points:
        setting = {"tiles": point.n_tiles, "ranks": ranks}
        figures += [
            Figure(f"{series.name}: launch to end", point.wall_s, "s", setting),
            Figure(f"{series.name}: of all processes", point.cpu_s, "CPU s", setting),
            Figure(f"{series.name}: fullest rank", point.peak_mb, "MB", setting),
        ]
        if np.isfinite(point.growth_bytes) and point.n_tiles >= _FEWEST_TILES:
            figures.append(Figure(f"{series.name}: growth of a rank", point.growth_bytes, "B/tile", setting))
    if len(points) > 1:
        before, last = points[-2:]
        tiles = last.n_tiles - before.n_tiles
        setting = {"tiles": f"{before.n_tiles} to {last.n_tiles}", "ranks": ranks}
        exponent = np.log(last.cpu_s / before.cpu_s) / np.log(last.n_tiles / before.n_tiles)
        figures += [
            Figure(
                f"{series.name}: for each further tile", 1e6 * (last.cpu_s - before.cpu_s) / tiles, "CPU us", setting
            ),
            Figure(f"{series.name}: exponent of processor seconds over tiles", float(exponent), "", setting),
        ]
    return figures


def plot(found: dict[str, list[Point]], target: Path) -> None:
    """Seconds and memory over tiles, as SVG and PNG."""
    figure = Plot(figsize=(9, 3.6), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    for name, points in found.items():
        tiles = [point.n_tiles for point in points]
        seconds.loglog(tiles, [point.cpu_s for point in points], "o-", label=name)
        memory.semilogx(tiles, [point.peak_mb for point in points], "o-", label=name)
    n = np.array([1e4, 1e6])
    seconds.loglog(n, 1e-4 * n, "k:", lw=1, label="proportional, 100 µs a tile")
    seconds.set(xlabel="tiles", ylabel="processor seconds, all processes")
    memory.set(xlabel="tiles", ylabel="MB of the fullest rank", ylim=(0, None))
    seconds.legend(loc="lower right", fontsize="small")
    save_plot(figure, target, dpi=80)


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json", "plot")
    parser.add_argument("--quick", action="store_true", help="small slides alone, once each")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--model", type=Path, default=None, help="one more model, of tiles of 224 px")
    parser.add_argument("--folder", type=Path, default=None, help="for slides of up to 700 MB")
    parser.add_argument("--copies", type=int, default=None, help="mean colour alone, N x N copies of the block, once")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.folder))
    tiny = write_tiny_package(folder / "tiny", tile_size=32)
    each = [
        Series("mean colour, 32 px", tiny, 1024, 128, (1, 3) if options.quick else (1, 3, 9, 27)),
        Series("shipped model, 224 px", default_model(), 3584, 224, (1,) if options.quick else (2, 6, 18)),
    ]
    if options.model is not None:
        each.append(Series(options.model.name, options.model, 3584, 224, (1,) if options.quick else (1, 3)))
    if options.copies is not None:
        each = [Series("mean colour, 32 px", tiny, 1024, 128, (options.copies,))]
    once = options.quick or options.copies is not None
    found: dict[str, list[Point]] = {}
    figures = []
    try:
        for series in each:
            found[series.name] = [
                measure(series, repeats, options.ranks, 1 if once else options.repetitions, folder)
                for repeats in series.repeats
            ]
            figures += figures_of(series, found[series.name], options.ranks)
    finally:
        shutil.rmtree(folder)
    report(figures, options.json)
    if options.plot is not None:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
