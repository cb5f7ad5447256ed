"""What each way to compute windows at stride 16 costs and keeps, by real runs.

    python -m bench.paper.stride_ways --work FOLDER [--quick] [--outlines FILE] [--model DIR] [--side N] [--json FILE]

The model's windows have to share passes (``pyramidai info MODEL`` says so); the shipped small-valid does. The map of
one pass a block, at every window, is the one that others are held against; each window by itself is computed on some
slides only (``--alone N``), as that takes a hundred times as long: there its scores are compared with those of the
passes, and its seconds a window are taken for the other slides. Slides and lesions: as `bench.paper.adaptive`.

Seconds are CPU seconds of all ranks from the first tile to the last, of one run each on two ranks; repeat for spread.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import Options, command_line
from bench.figures import Figure, print_table, report
from bench.on_ranks import run_program
from bench.paper.adaptive import QUICK, QUICK_SIDE, SLIDES, STRIDE, Compared, compare, write_slides
from pyramidai_mpi.evaluation.froc import froc_curve
from pyramidai_mpi.models.shipped import find_model
from pyramidai_mpi.pyramid.tree import ExecutionTree
from pyramidai_mpi.store.results.dense import read_dense_map
from pyramidai_mpi.store.results.reader import open_result, read_levels
from pyramidai_mpi.store.results.tables import read_execution

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WAYS = {
    "window": ("window", "reference"),
    "shared": ("shared", "reference"),
    "adaptive": ("adaptive", "reference"),
    "adaptive-shared": ("adaptive-shared", "reference"),
    "shared, below the pyramid": ("shared", "pyramid"),
    "adaptive-shared, below the pyramid": ("adaptive-shared", "pyramid"),
}
"""Names, with ``--stride-mode`` and ``--mode``; the first is reckoned, the second what others are held against."""


@dataclass(frozen=True)
class Run:
    """One result: CPU seconds, and windows that were looked at."""

    path: Path
    cpu_s: float
    windows: int

    @classmethod
    def read(cls, path: Path) -> Run:
        """What a result says of its run."""
        with open_result(path) as file:
            ranks = read_execution(file).ranks
            return cls(path, float(ranks["cpu_s"].sum()), ExecutionTree(read_levels(file)).n_windows)


def run_way(slides: Sequence[Path], way: str, model: Path) -> list[Run]:
    """Results of one way, those that are missing made, each slide by itself so that its seconds are its own."""
    stride_mode, mode = WAYS[way]
    folder = slides[0].parent / way.replace(", ", "-").replace(" ", "-")
    folder.mkdir(exist_ok=True)
    found = []
    for slide in slides:
        path = folder / f"{slide.stem}.h5"
        if not path.exists():
            how = ["--mode", mode, "--stride", str(STRIDE), "--stride-mode", stride_mode, "--model", model, "-o", path]
            run_program(2, ["run", slide, *how])
        found.append(Run.read(path))
    return found


def largest_difference(one: Path, other: Path) -> float:
    """Of the scores of two maps where both have one."""
    maps = []
    for path in (one, other):
        with open_result(path) as file:
            maps.append(read_dense_map(file).score)
    both = np.isfinite(maps[0]) & np.isfinite(maps[1])
    return float(np.abs(maps[0][both] - maps[1][both]).max())


def rows(runs: dict[str, list[Run]], judged: dict[str, list[Compared]], alone_s: float) -> Iterator[tuple[str, ...]]:
    """A row a way: windows, seconds and what they keep, over all slides."""
    every = runs["shared"]
    n_all = sum(run.windows for run in every)
    reference = froc_curve([one.full for one in judged["shared"]])
    for way in WAYS:
        if way == "window":
            yield way, f"{n_all}", f"{alone_s * n_all:.0f} (reckoned)", f"{alone_s * 1e3:.3f}", "1", "1", "0"
            continue
        cpu, windows = (sum(getattr(run, name) for run in runs[way]) for name in ("cpu_s", "windows"))
        froc = froc_curve([one.steps for one in judged[way]])
        iou = [one.agreement.iou for one in judged[way] if not np.isnan(one.agreement.iou)]
        yield (
            way,
            f"{windows}",
            f"{cpu:.1f}",
            f"{cpu / windows * 1e3:.3f}",
            f"1/{alone_s * n_all / cpu:.1f}",
            f"{np.mean(iou):.4f} (lowest {min(iou):.4f})",
            f"{froc.score - reference.score:+.4f}",
        )


def figures_of(runs: dict[str, list[Run]], alone_s: float, difference: float) -> list[Figure]:
    """What the ways cost, slide by slide."""
    found = [
        Figure("scores, window and shared: largest difference", difference, ""),
        Figure("a window by itself", alone_s * 1e3, "CPU ms", {"FDA": "224 (an upper bound, GoogLeNet)"}),
    ]
    for way in list(WAYS)[1:]:
        shares = [run.cpu_s / (alone_s * full.windows) for run, full in zip(runs[way], runs["shared"], strict=True)]
        setting = {"as": f"1/{1 / np.mean(shares):.1f}", "worst slide": f"1/{1 / max(shares):.1f}"}
        found.append(Figure(f"CPU seconds of {way} over window, mean of slides", float(np.mean(shares)), "", setting))
    return found


def add_up(options: Options) -> None:
    """Make what is missing, and print it all."""
    slides, side = (QUICK, QUICK_SIDE) if options.quick else (SLIDES, options.side)
    model = find_model(options.model or Path("small-valid"))
    paths = write_slides(options.work / f"{side}", options.outlines, slides, side)
    alone = run_way(paths[: options.alone], "window", model)
    runs = {way: run_way(paths, way, model) for way in list(WAYS)[1:]}
    full = [run.path for run in runs["shared"]]
    judged = {
        way: [compare(*three) for three in zip(paths, full, [run.path for run in runs[way]], strict=True)]
        for way in list(WAYS)[1:]
    }
    alone_s = sum(run.cpu_s for run in alone) / sum(run.windows for run in alone)
    difference = max(largest_difference(one.path, other) for one, other in zip(alone, full, strict=False))
    heads = ("way", "windows", "CPU s", "CPU ms a window", "CPU s over window's", "IoU with all", "FROC, difference")
    print_table(heads, rows(runs, judged, alone_s))
    print()
    report(figures_of(runs, alone_s, difference), options.json)


def main() -> None:
    """Read the command line and run."""
    parser = command_line(__doc__, "outlines", "json")
    parser.add_argument("--work", type=Path, required=True, help="folder for slides and results, reused when filled")
    parser.add_argument("--model", type=Path, help="model package or name; small-valid unless given")
    parser.add_argument("--side", type=int, default=4096, help="of the generated slides, pixels")
    parser.add_argument("--alone", type=int, default=1, help="slides on which each window is computed by itself, too")
    parser.add_argument("--quick", action="store_true", help="two small slides: does it run?")
    add_up(parser.parse_args())


if __name__ == "__main__":
    main()
