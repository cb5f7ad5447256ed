"""Speed and memory of the exports: a result of a million tiles, each format written by a process of its own.

    python -m bench.speed.exports [--roots COLSxROWS] [--json FILE]

The result is made, not computed: five levels, all tissue, every tile above level 0 zoomed into, random scores (which is
the worst case for `--merge`: tens of thousands of small, jagged regions). Time is that of the whole command (`pyramidai
export`), start of Python included, by the wall clock and by the processor's; memory is the peak resident size.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.tissue import mask_downsample, mask_pixels_per_tile
from pyramidai_mpi.pyramid.tree import ExecutionTree, TreeLevel
from pyramidai_mpi.store.results.reader import summarise
from pyramidai_mpi.store.results.result import Execution, LevelRecord, ModelRecord, Result, SlideRecord, TissueRecord
from pyramidai_mpi.store.results.writer import create_file, finish_file, slab_of, write_slab

_LEVELS, _TILE, _MPP = 5, 224, 0.25
EXPORTS = {
    "csv": ["--csv", "tiles.csv"],
    "geojson": ["--geojson", "tiles.geojson"],
    "geojson.gz": ["--geojson", "tiles.geojson.gz"],
    "geojson --flat": ["--geojson", "flat.geojson", "--flat"],
    "geojson --merge": ["--geojson", "regions.geojson", "--merge"],
    "heatmap": ["--heatmap", "heatmap.tif"],
    "overlay": ["--overlay", "overlay.png"],
    "deepzoom": ["--deepzoom", "deepzoom"],
    "clam": ["--clam", "clam"],
    "report": ["--report", "report.html"],
}


def made_grid(root_cols: int, root_rows: int, tile_px: int = _TILE) -> Grid:
    """Tiles of a slide of whole roots."""
    side = tile_px * 2 ** (_LEVELS - 1)
    return Grid.of_tiles(root_cols * side, root_rows * side, tile_px, 2, _LEVELS, 1.0)


def made_result(root_cols: int, root_rows: int, seed: int = 0) -> Result:
    """A result in which all tiles of all levels were analysed."""
    grid = made_grid(root_cols, root_rows)
    return result_of(made_tree(grid, seed), grid)


def made_tree(grid: Grid, seed: int) -> ExecutionTree:
    """All tiles of a slide that is all tissue, with random scores."""
    rng = np.random.default_rng(seed)
    levels: dict[int, TreeLevel] = {}
    for n in range(_LEVELS):
        cols, rows = grid.shape(n)
        row, col = np.divmod(np.arange(cols * rows), cols)
        score = rng.random(cols * rows, np.float32)
        positive = np.full(len(col), True) if n else score >= 0.5
        levels[n] = TreeLevel(
            index=np.stack([col, row], axis=1).astype(np.uint32),
            probability=np.stack([1 - score, score], axis=1),
            decision=np.where(positive, Decision.ZOOM, Decision.STOP).astype(np.uint8),
            parent=(row // 2) * (cols // 2) + col // 2 if n < _LEVELS - 1 else np.full(len(col), -1, np.int64),
        )
    return ExecutionTree(levels)


def result_of(tree: ExecutionTree, grid: Grid) -> Result:
    """A tree as a result of a slide that is all tissue."""
    levels, pixels, tile_px = tree.levels, mask_pixels_per_tile(grid), round(grid.l0_side(0))
    mask = np.ones((grid.shape(0)[1] * pixels, grid.shape(0)[0] * pixels), bool)
    return Result(
        slide=SlideRecord("made.tif", "00" * 32, "none", (grid.l0_width, grid.l0_height), _MPP, (0, 0)),
        model=ModelRecord(
            "made", ("normal", "tumor"), "tumor", tile_px, 2, _MPP, "none", ("00" * 32,) * _LEVELS, "name: made\n"
        ),
        tissue=TissueRecord(mask, mask_downsample(grid), "none"),
        levels=tuple(
            LevelRecord(tile_px, tile_px * 2**n, n, 2.0**n, grid.level_dimensions(n), _MPP * 2**n, 0.5)
            for n in range(_LEVELS)
        ),
        tree=tree,
        l0_coords=tuple(grid.l0_corners(n, levels[n].index) for n in range(_LEVELS)),
        failed=np.zeros(0, FAILED_DTYPE),
        mode="pyramid",
        n_reference_tiles=len(levels[0]),
        execution=Execution({"command_line": "bench.speed.exports"}, np.zeros(1, [("rank", "<i4"), ("busy_s", "<f8")])),
    )


def write_result(path: Path, result: Result) -> None:
    """Write a whole result file."""
    create_file(path, result, datetime.now(UTC), "bench")
    write_slab(path, slab_of(result, 0, 1))
    finish_file(path, result.execution, result.digest())


def timed(command: list[str], folder: Path) -> tuple[float, float, float]:
    """Wall seconds, processor seconds and peak resident MB of a command that must succeed."""
    started = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=os.environ | {"PYTHONPATH": str(Path.cwd())})
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command} ended with status {status}")
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def size_of(folder: Path, name: str) -> int:
    """Bytes of a file, or of all files in a folder."""
    path = folder / name
    return sum(each.stat().st_size for each in path.rglob("*")) if path.is_dir() else path.stat().st_size


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--roots", default="55x54", help="columns and rows of root tiles")
    parser.add_argument("--make", type=Path, default=None, help="only write the result to this file")
    arguments = parser.parse_args()
    if arguments.make is not None:
        cols, rows = (int(extent) for extent in arguments.roots.split("x"))
        write_result(arguments.make, made_result(cols, rows))
        return
    figures = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # in a process of its own: a child's peak includes what its parent held when it was started
        make = [sys.executable, "-m", "bench.speed.exports", "--roots", arguments.roots]
        subprocess.run([*make, "--make", folder / "made.h5"], check=True)
        n_tiles = sum(level.analysed for level in summarise(folder / "made.h5").levels)
        print(f"{n_tiles} tiles")
        for title, options in EXPORTS.items():
            command = [sys.executable, "-m", "pyramidai_mpi", "export", "made.h5", *options]
            wall_s, cpu_s, peak_mb = timed(command, folder)
            print(
                f"{title:16} {wall_s:6.1f} s {cpu_s:6.1f} s of processor {n_tiles / wall_s:9.0f} tiles/s "
                f"{peak_mb:5.0f} MB peak {size_of(folder, options[1]) / 1e6:7.1f} MB written",
                flush=True,
            )
            figures += [
                Figure(f"{title}: tiles per second", n_tiles / wall_s, "1/s"),
                Figure(f"{title}: tiles per processor second", n_tiles / cpu_s, "1/s"),
                Figure(f"{title}: peak memory", peak_mb, "MB"),
            ]
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
