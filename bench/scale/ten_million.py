"""A result of ten million tiles: seconds and memory of assembling and writing it, and of everything that reads it.

    python -m bench.scale.ten_million [--tiles 1000000,10000000] [--tile-px 32] [--ranks 1,2,4] [--folder DIR]

Tiles are made, not computed: five levels, all tissue, random scores, as in `bench.speed.exports`. Rank 0 holds their
records in random order, as a slide's owner does when the last has come, puts them in order and writes the file, alone
or with the other ranks through MPI-IO where this h5py can. Then each command reads that file in a process of its own;
its peak is the largest resident size. ``--tile-px`` decides how many pixels the tissue mask has: one a tile of 32 px,
49 of 224 px.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, print_table, report
from bench.memory import start_peak_anew
from bench.on_ranks import output_of
from bench.speed.exports import EXPORTS, made_grid, made_tree, result_of, timed
from pyramidai_mpi.base.types import Mode, prediction_dtype
from pyramidai_mpi.process.memory import peak_resident_bytes
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap, mask_pixels_per_tile
from pyramidai_mpi.pyramid.tree import build_tree
from pyramidai_mpi.run.write import write_result
from pyramidai_mpi.store.results.writer import can_write_in_parallel

if TYPE_CHECKING:
    import numpy.typing as npt

    from bench.command_line import Options
    from pyramidai_mpi.pyramid.grid import Grid
    from pyramidai_mpi.store.results.result import Result

_TILES_A_ROOT = 341
_READ = "import sys, pathlib\nfrom pyramidai_mpi.store.results.reader import open_result\n"
_READERS = {
    "opening (seal, check)": ["-c", f"{_READ}with open_result(pathlib.Path(sys.argv[1])): pass"],
    "digest": ["-m", "pyramidai_mpi", "digest"],
    "info": ["-m", "pyramidai_mpi", "info"],
    "in a notebook": [
        "-c",
        "import sys, pyramidai_mpi\npyramidai_mpi.open_result(sys.argv[1])._repr_html_()",
    ],
    "start of view": [
        "-c",
        "import sys, pathlib\nfrom pyramidai_mpi.view.opening import open_view\n"
        "with open_view(pathlib.Path(sys.argv[1])): pass",
    ],
}


def shuffled_records(grid: Grid, seed: int = 0) -> npt.NDArray[np.void]:
    """Records of all tiles in random order."""
    tree = made_tree(grid, seed)
    records = np.empty(tree.n_tiles, prediction_dtype(2))
    order = np.random.default_rng(seed).permutation(tree.n_tiles)
    first = 0
    for n, level in tree.levels.items():
        at = order[first : first + len(level)]
        records["level"][at] = n
        records["col"][at], records["row"][at] = level.index.T
        records["probability"][at], records["decision"][at] = level.probability, level.decision
        first += len(level)
    return records


def write_on_ranks(options: Options) -> None:
    """One rank's part of assembling and writing; rank 0 prints seconds, and peaks of all ranks, as JSON."""
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    root_cols, root_rows = options.roots
    grid = made_grid(root_cols, root_rows, options.tile_px)
    records = shuffled_records(grid) if comm.rank == 0 else None
    pixels = mask_pixels_per_tile(grid)
    cols, rows = grid.shape(0)
    rule = TileRule(TissueMap(grid, np.ones((rows * pixels, cols * pixels), bool), pixels), 0.05)
    rule.tissue.counts  # noqa: B018  # is there before the first tile
    comm.Barrier()
    before = start_peak_anew()
    started = time.perf_counter()
    result: Result | None = None
    if records is not None:
        result = result_of(build_tree(records, rule, Mode.EXHAUSTIVE), grid)
    comm.Barrier()
    assembled, assembling_s = peak_resident_bytes(), time.perf_counter() - started
    start_peak_anew()
    write_result(comm, result, options.write, overwrite=True, parallel=options.writer == "mpio")
    writing_s = time.perf_counter() - started - assembling_s
    seen = comm.gather((before, assembled, peak_resident_bytes()))
    if seen is not None:
        print(json.dumps({"assembling_s": assembling_s, "writing_s": writing_s, "bytes": seen}))


def measure_writing(roots: tuple[int, int], options: Options, path: Path) -> list[Figure]:
    """Seconds and peaks, for each number of ranks and each writer that can be had; leaves the file."""
    figures = []
    for ranks in options.ranks:
        for writer in ("serial", "mpio") if ranks > 1 and can_write_in_parallel() else ("serial",):
            words = ["-m", "bench.scale.ten_million", "--write", str(path), "--writer", writer]
            words += ["--roots", f"{roots[0]}x{roots[1]}", "--tile-px", str(options.tile_px)]
            said = json.loads(output_of(ranks, words))
            title, setting = f"{writer}, {ranks} ranks", {"tiles": roots[0] * roots[1] * _TILES_A_ROOT}
            held, assembling, writing = (np.array(one) / 1e6 for one in zip(*said["bytes"], strict=True))
            figures += [
                Figure(f"{title}: putting in order", said["assembling_s"], "s", setting),
                Figure(f"{title}: writing", said["writing_s"], "s", setting),
                Figure(f"{title}: rank 0 before", held[0], "MB", setting),
                Figure(f"{title}: rank 0, putting in order", assembling[0], "MB", setting),
                Figure(f"{title}: rank 0, writing", writing[0], "MB", setting),
            ]
            if ranks > 1:
                figures.append(Figure(f"{title}: fullest other rank, writing", writing[1:].max(), "MB", setting))
    return figures


def measure_reading(n_tiles: int, path: Path) -> list[Figure]:
    """Seconds and peak of everything that reads the file."""
    commands = {title: [sys.executable, *words, str(path)] for title, words in _READERS.items()}
    commands |= {
        title: [sys.executable, "-m", "pyramidai_mpi", "export", str(path), *words, "--overwrite"]
        for title, words in EXPORTS.items()
    }
    figures = []
    for title, command in commands.items():
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            wall_s, cpu_s, peak_mb = timed(command, Path(folder))
        setting = {"tiles": n_tiles}
        figures += [
            Figure(f"{title}: wall", wall_s, "s", setting),
            Figure(f"{title}: processor", cpu_s, "s", setting),
            Figure(f"{title}: peak", peak_mb, "MB", setting),
        ]
        print(f"{n_tiles} {title}: {wall_s:.1f} s, {cpu_s:.1f} s of processor, {peak_mb:.0f} MB", flush=True)
    return figures


def roots_for(n_tiles: int) -> tuple[int, int]:
    """Columns and rows of roots that have about so many tiles under them."""
    cols = round((n_tiles / _TILES_A_ROOT) ** 0.5)
    return cols, max(1, round(n_tiles / _TILES_A_ROOT / cols))


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--tiles", type=_numbers, default=[1_000_000, 10_000_000])
    parser.add_argument("--tile-px", type=int, default=32)
    parser.add_argument("--ranks", type=_numbers, default=[1, 2, 4])
    parser.add_argument("--folder", type=Path, default=None, help="for results and exports of up to 3 GB")
    parser.add_argument("--writing-alone", action="store_true", help="do not read the file")
    parser.add_argument("--write", type=Path, default=None, help="one rank's part of the measurement")
    parser.add_argument("--writer", choices=("serial", "mpio"), default="serial")
    parser.add_argument("--roots", type=lambda text: tuple(map(int, text.split("x"))), default=None)
    options = parser.parse_args()
    if options.write is not None:
        write_on_ranks(options)
        return
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for n_tiles in options.tiles:
            roots, path = roots_for(n_tiles), Path(folder) / "made.h5"
            figures += measure_writing(roots, options, path)
            if not options.writing_alone:
                figures += measure_reading(roots[0] * roots[1] * _TILES_A_ROOT, path)
    report(figures, options.json)
    _print_growth(figures)


def _print_growth(figures: list[Figure]) -> None:
    """Each peak at the smallest and at the largest number of tiles."""
    peaks: dict[str, list[float]] = {}
    for figure in figures:
        if figure.unit == "MB":
            peaks.setdefault(figure.figure, []).append(figure.value)
    rows = ((name, f"{seen[0]:.0f}", f"{seen[-1]:.0f}", f"{seen[-1] - seen[0]:.0f}") for name, seen in peaks.items())
    print_table(("", "fewest tiles, MB", "most tiles, MB", "growth"), rows)


def _numbers(text: str) -> list[int]:
    return [int(float(word)) for word in text.split(",")]


if __name__ == "__main__":
    main()
