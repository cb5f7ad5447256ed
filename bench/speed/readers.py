"""What a tile costs to read, level by level, by the readers and by the ways to read levels of odd size.

    python -m bench.speed.readers SLIDE... [--tile T] [--most N] [--repetitions N] [--json FILE]

CPU time of one thread for tiles of each stored level, in row-major order, pages cached (a first round is not counted);
where a level has more than --most tiles, whole rows of them spread over it. Repetitions alternate between the ways, and
medians are shown with the least and the most. Then: whether both readers gave the same pixels, and, of a level of odd
size, by how many grey levels its own pixels differ from OpenSlide's, which lie at fractions of them.
"""

from __future__ import annotations

import hashlib
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from pyramidai_mpi.base.odd_levels import INTERPOLATED, ODD_LEVELS
from pyramidai_mpi.slides.readers.choice import open_slide


class Way(NamedTuple):
    """How a slide is opened."""

    reader: str
    odd_levels: str


WAYS = tuple(Way(reader, odd_levels) for odd_levels in ODD_LEVELS for reader in ("auto", "openslide"))


def corners(size: tuple[int, int], tile: int, most: int) -> list[tuple[int, int]]:
    """Corners of tiles of a level, in its pixels: all, or whole rows of them spread over it."""
    columns, rows = (-(-side // tile) for side in size)
    n_rows = max(1, min(rows, most // columns))
    chosen = np.unique(np.linspace(0, rows - 1, n_rows).astype(int)).tolist()
    return [(col * tile, row * tile) for row in chosen for col in range(columns)]


def read(slide: Path, way: Way, level: int, tile: int, most: int) -> tuple[float, str, list[np.ndarray]]:
    """CPU milliseconds a tile, SHA-256 of all pixels, and some of the tiles."""
    reader = open_slide(slide, way.reader, odd_levels=way.odd_levels)
    downsample = reader.info.stored_downsamples[level]
    places = corners(reader.info.stored_sizes[level], tile, most)
    digest, kept, spent = hashlib.sha256(), [], 0.0
    for number, (x, y) in enumerate(places):
        started = time.process_time()
        pixels = reader.read((round(x * downsample), round(y * downsample)), level, (tile, tile))
        spent += time.process_time() - started
        digest.update(pixels)
        if number % 16 == 0:
            kept.append(pixels)
    reader.close()
    return spent / len(places) * 1000, digest.hexdigest(), kept


def measured(slide: Path, tile: int, most: int, repetitions: int) -> list[Figure]:
    """Figures of one slide."""
    info = open_slide(slide, odd_levels=INTERPOLATED).info
    figures = []
    for level, size in enumerate(info.stored_sizes):
        is_odd = not info.stored_exact[level]
        ways = WAYS if is_odd else WAYS[:2]
        times: dict[Way, list[float]] = {way: [] for way in ways}
        hashes: dict[Way, str] = {}
        tiles: dict[Way, list[np.ndarray]] = {}
        for repetition in range(repetitions + 1):
            for way in ways:
                milliseconds, hashes[way], tiles[way] = read(slide, way, level, tile, most)
                if repetition:
                    times[way].append(milliseconds)
        name = f"{slide.name} level {level}"
        n_tiles = len(corners(size, tile, most))
        for way in ways:
            setting = {"reader": way.reader, "tiles": n_tiles, "least": f"{min(times[way]):.3f}"}
            setting |= {"most": f"{max(times[way]):.3f}"} | ({"odd levels": way.odd_levels} if is_odd else {})
            figures.append(Figure(name, statistics.median(times[way]), "ms a tile", setting))
        for odd_levels in ODD_LEVELS if is_odd else ODD_LEVELS[:1]:
            same = hashes[Way("auto", odd_levels)] == hashes[Way("openslide", odd_levels)]
            figures.append(Figure(f"{name}: readers agree", float(same), "", {"odd levels": odd_levels}))
        if is_odd:
            own, other = (np.array(tiles[Way("auto", odd_levels)], np.int16) for odd_levels in ODD_LEVELS)
            off = np.abs(own - other)
            figures.append(
                Figure(f"{name}: own from interpolated", float(off.mean()), "grey", {"most": int(off.max())})
            )
    return figures


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--tile", type=int, default=224, help="side in pixels")
    parser.add_argument("--most", type=int, default=700, help="tiles of a level, about")
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    figures = []
    for slide in arguments.slides:
        figures += measured(slide, arguments.tile, arguments.most, arguments.repetitions)
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
