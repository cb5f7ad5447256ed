"""How near to ideal each way of sharing work comes: lesions of real slides, tiles that sleep, real MPI.

    python -m bench.balance.balance [--ranks 48,24,12,4,2] [--outlines FILE] [--json FILE] [--plot PREFIX]

Starts mpirun itself, once for each number of ranks; within it all methods run in turn, three times over. Efficiency is
the sum of all nominal sleeps over ranks times wall time, from a barrier until all ranks have agreed on the end. For
mpi4py.futures' MPIPoolExecutor it is given per worker as well, since its first rank only deals. The trees are described
in `bench.paper.lesions`; the slide and the sleep are chosen so that the ideal wall time is 20 s and more everywhere.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.figures import Figure, report
from bench.paper.lesions import LEVELS, OUTLINES, LesionTree, build_tree, load_outlines
from pyramidai_mpi.testing.launch import mpirun

if TYPE_CHECKING:
    from collections.abc import Sequence

METHODS = ("static", "steal-one", "steal-half", "pool-1", "pool-16")
ROOTS = 4000
FALSE_ALARMS = 0.02
BATCH_SIZE = 16


@dataclass(frozen=True)
class Case:
    """What is done on so many ranks: a slide of the outline file, and the sleep per tile, seconds."""

    slide: str
    seconds: float


CASES = {
    2: Case("tumor_001", 0.01),
    4: Case("tumor_001", 0.02),
    12: Case("tumor_011", 0.02),
    24: Case("tumor_009", 0.02),
    48: Case("tumor_009", 0.04),
}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="48,24,12,4,2")
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--outlines", type=Path, default=OUTLINES, help="JSON of lesion outlines, may be gzipped")
    parser.add_argument("--slide", default=None, help="slide of the outline file, unless the one of the case")
    parser.add_argument("--roots", type=int, default=ROOTS)
    parser.add_argument("--seconds", default=None, help="sleep per tile, one for all levels or level 0,1,2")
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None, help="write PREFIX.svg and PREFIX.png")
    return parser.parse_args()


def run_case(ranks: int, options: argparse.Namespace, folder: Path) -> list[Figure]:
    """Median efficiencies of all methods on `ranks` ranks."""
    case = CASES.get(ranks, CASES[48])
    slide = options.slide or case.slide
    tree = tree_of(options.outlines, slide, options.roots)
    path = folder / f"{slide}.npz"
    tree.save(path)
    seconds = options.seconds or str(case.seconds)
    if "," not in seconds:
        seconds = ",".join([seconds] * LEVELS)
    program = ["-m", "bench.balance.sleeping", path, "--seconds", seconds, "--batch-size", str(BATCH_SIZE)]
    program += ["--methods", options.methods, "--repetitions", str(options.repetitions)]
    lines = rows_of(ranks, program)
    figures = []
    for method in options.methods.split(","):
        rows = [row for row in lines if row["method"] == method]
        setting = {
            "ranks": ranks,
            "method": method,
            "slide": slide,
            "roots": options.roots,
            "tiles": rows[0]["tiles"],
            "seconds": seconds,
            "ideal_s": round(rows[0]["nominal_s"] / ranks, 1),
            "repetitions": len(rows),
            "least": round(min(row["efficiency"] for row in rows), 4),
            "most": round(max(row["efficiency"] for row in rows), 4),
        }
        figures += [
            Figure(name, median(row[name] for row in rows), "of ideal", setting)
            for name in ("efficiency", "efficiency_per_worker")
        ]
    return figures


def tree_of(outlines: Path, slide: str, roots: int) -> LesionTree:
    """Tree over the lesions of `slide`.

    Raises
    ------
    SystemExit
        The file has no such slide.
    """
    found = load_outlines(outlines)
    if slide not in found:
        raise SystemExit(f"{outlines} has no slide {slide!r}; name one of its slides with --slide")
    return build_tree(found[slide], roots, FALSE_ALARMS)


def rows_of(ranks: int, program: Sequence[str | os.PathLike[str]]) -> list[dict]:
    """The lines of JSON that `program` prints on `ranks` ranks.

    Raises
    ------
    SystemExit
        It failed.
    """
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        job = mpirun(ranks, program, timeout=3600)
    if job.returncode:
        raise SystemExit(f"{' '.join(job.args)} ended with {job.returncode}\n{job.stderr}")
    return [json.loads(line) for line in job.stdout.splitlines()]


def print_table(figures: list[Figure]) -> None:
    """Efficiency as Markdown: a line per number of ranks; the pool per worker and per rank."""
    found = {(f.setting["ranks"], f.setting["method"], f.figure): f.value for f in figures}
    methods = list(dict.fromkeys(f.setting["method"] for f in figures))
    columns = [(m, "efficiency") for m in methods]
    columns += [(m, "efficiency_per_worker") for m in methods if m.startswith("pool")]
    names = [m if name == "efficiency" else f"{m} per worker" for m, name in columns]
    print(f"| ranks | slide, tiles | ideal s | {' | '.join(names)} |\n|{' --- |' * (len(columns) + 3)}")
    for ranks in sorted({ranks for ranks, _, _ in found}):
        setting = next(f.setting for f in figures if f.setting["ranks"] == ranks)
        cells = [f"{found[ranks, m, name]:.3f}" for m, name in columns]
        print(f"| {ranks} | {setting['slide']}, {setting['tiles']} | {setting['ideal_s']} | {' | '.join(cells)} |")


def draw_plot(figures: list[Figure], prefix: Path) -> None:
    """Efficiency over ranks, a line per method, as SVG and PNG."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        raise SystemExit("the plot needs matplotlib: pip install matplotlib, or leave --plot away") from None
    plot, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for method in dict.fromkeys(f.setting["method"] for f in figures):
        points = sorted(
            (f.setting["ranks"], f.value) for f in figures if f.setting["method"] == method and f.figure == "efficiency"
        )
        style = ":" if method.startswith("pool") else "-"
        label = f"MPIPoolExecutor, chunk {method.removeprefix('pool-')}" if style == ":" else method
        axes.plot(*zip(*points, strict=True), style, marker="o", label=label)
    ranks = sorted({f.setting["ranks"] for f in figures})
    axes.set_xscale("log", base=2)
    axes.set_xticks(ranks, [str(n) for n in ranks])
    axes.set(xlabel="MPI ranks", ylabel="efficiency per rank (1 = ideal)", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend()
    for suffix in (".svg", ".png"):
        plot.savefig(prefix.with_suffix(suffix), dpi=150)


def main() -> None:
    """Measure, print, plot."""
    options = parse_arguments()
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for ranks in options.ranks.split(","):
            figures += run_case(int(ranks), options, Path(folder))
            report(figures, options.json)  # what is there, should the rest fail
            print(flush=True)
    print_table(figures)
    if options.plot is not None:
        draw_plot(figures, options.plot)


if __name__ == "__main__":
    main()
