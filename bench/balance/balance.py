"""How near to ideal each way of sharing work comes: lesions of real slides, tiles that sleep, real MPI.

    python -m bench.balance.balance [--ranks 48,24,12,4,2] [--outlines FILE] [--json FILE] [--plot PREFIX]
    python -m bench.balance.balance --paper [...]            the paper's Fig. 7: seconds of three slides
    python -m bench.balance.balance --pixels [--side 12000] [--model DIR] [...]      the same with real pixels

Starts mpirun itself, once for each number of ranks and slide; within it all methods run in turn, three times over.
Efficiency is the sum of all nominal sleeps over ranks times wall time, from a barrier until all ranks have agreed on
the end. For mpi4py.futures' MPIPoolExecutor it is given per worker as well, since its first rank only deals. The trees
are described in `bench.paper.lesions`; the slide and the sleep are chosen so that the ideal wall time is 20 s and more
everywhere.

The paper's three slides are one with large tumours, one with several small ones and one without any, their 0.33 s a
tile scaled down. Of real pixels, those of generated slides, the program's own seconds of the analysis phase are given.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import h5py
from matplotlib.figure import Figure as Plot

from bench.command_line import Options, command_line
from bench.figures import Figure, print_table, report, save_plot
from bench.on_ranks import output_of, run_program
from bench.paper.lesions import BATCH_SIZE, LEVELS, PAPER_SLIDES, ROOTS, tree_of
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import SynthSpec, write_slide

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

METHODS = "static,steal-one,steal-half,pool-1,pool-16"
PAPER_METHODS = "static,steal-half"
PAPER_SLEEP_S = 0.33 / 200
TUMOR_SHARES = {"large tumours": 0.4, "several small": 0.05, "negative": 0.0}
"""Of the generated slides that stand for the paper's."""


@dataclass(frozen=True)
class Case:
    """What is done: a slide of the outline file or none, its name in tables, and the sleep per tile, seconds."""

    name: str
    slide: str | None
    seconds: float


CASES = {
    2: Case("tumor_001", "tumor_001", 0.01),
    4: Case("tumor_001", "tumor_001", 0.02),
    12: Case("tumor_011", "tumor_011", 0.02),
    24: Case("tumor_009", "tumor_009", 0.02),
    48: Case("tumor_009", "tumor_009", 0.04),
}
"""By number of ranks."""


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "outlines", "json", "plot")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--paper", action="store_true", help="the paper's three slides, in seconds")
    kind.add_argument("--pixels", action="store_true", help="real pixels and networks, in seconds")
    parser.add_argument("--ranks", help="48,24,12,4,2 unless given; 1,2,3,4,6,8,12 with --paper, 1,2 with --pixels")
    parser.add_argument("--methods", help=f"{METHODS} unless given; {PAPER_METHODS} with --paper and --pixels")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--slide", default=None, help="slide of the outline file, unless those of the case")
    parser.add_argument("--roots", type=int, default=ROOTS)
    parser.add_argument("--seconds", default=None, help="sleep per tile, one for all levels or level 0,1,2")
    parser.add_argument("--side", type=int, default=12000, help="of the generated slides, pixels")
    parser.add_argument("--model", type=Path, default=None, help="of real pixels; the shipped one unless given")
    options = parser.parse_args()
    in_seconds = options.paper or options.pixels
    ranks = options.ranks or ("1,2,3,4,6,8,12" if options.paper else "1,2" if options.pixels else "48,24,12,4,2")
    options.ranks = [int(n) for n in ranks.split(",")]
    options.methods = (options.methods or (PAPER_METHODS if in_seconds else METHODS)).split(",")
    return options


def measure_sleeping(options: Options, folder: Path) -> Iterator[list[Figure]]:
    """Medians of all methods, for one number of ranks and slide after the other."""
    if options.paper:
        cases = [(n, Case(name, slide, PAPER_SLEEP_S)) for name, slide in PAPER_SLIDES.items() for n in options.ranks]
    else:
        cases = [(n, CASES.get(n, CASES[48])) for n in options.ranks]
    for ranks, case in cases:
        yield run_case(ranks, case, options, folder)


def run_case(ranks: int, case: Case, options: Options, folder: Path) -> list[Figure]:
    """Medians of all methods on one slide."""
    if options.slide is not None:
        case = replace(case, name=options.slide, slide=options.slide)
    path = folder / f"{case.name}.npz"
    tree_of(options.outlines, case.slide, options.roots).save(path)
    seconds = options.seconds or str(case.seconds)
    if "," not in seconds:
        seconds = ",".join([seconds] * LEVELS)
    figures = []
    lines = rows_of(ranks, path, seconds, options.methods, options.repetitions)
    for method in options.methods:
        rows = [row for row in lines if row["method"] == method]
        setting = {
            "ranks": ranks,
            "method": method,
            "slide": case.name,
            "roots": options.roots,
            "tiles": rows[0]["tiles"],
            "seconds": seconds,
            "ideal_s": round(rows[0]["nominal_s"] / ranks, 3),
            "repetitions": len(rows),
            "least": round(min(row["efficiency"] for row in rows), 4),
            "most": round(max(row["efficiency"] for row in rows), 4),
        }
        units = {"efficiency": "of ideal", "efficiency_per_worker": "of ideal", "wall_s": "s", "cpu_us_per_tile": "us"}
        for name, unit in units.items():
            figures.append(Figure(name, median(row[name] for row in rows), unit, setting))
    return figures


def rows_of(ranks: int, tree: Path, seconds: str, methods: Sequence[str], repetitions: int) -> list[dict]:
    """What `bench.balance.sleeping` measures on `ranks` ranks; `seconds` of level 0, 1, 2."""
    program = ["-m", "bench.balance.sleeping", tree, "--seconds", seconds, "--batch-size", str(BATCH_SIZE)]
    program += ["--methods", ",".join(methods), "--repetitions", str(repetitions)]
    return [json.loads(line) for line in output_of(ranks, program).splitlines()]


def measure_pixels(options: Options, folder: Path) -> Iterator[list[Figure]]:
    """Seconds of the analysis phase of whole runs over generated slides, one after the other."""
    model = options.model or default_model()
    for seed, (name, share) in enumerate(TUMOR_SHARES.items(), start=1):
        slide, output = folder / f"{seed}.tif", folder / f"{seed}.h5"
        write_slide(SynthSpec(options.side, options.side, seed=seed, tumor_share=share), slide)
        found: dict[tuple[int, str], list[float]] = {}
        tiles = 0
        for _ in range(options.repetitions):
            for n in options.ranks:
                for method in options.methods:
                    run_program(n, ["run", slide, "--model", model, "-o", output, "--policy", method, "--overwrite"])
                    with h5py.File(output) as result:
                        found.setdefault((n, method), []).append(float(result["execution"].attrs["analyse_s"]))
                        tiles = sum(len(level["index"]) for level in result["levels"].values())
        figures = []
        for (n, method), seconds in found.items():
            setting = {"slide": name, "side": options.side, "model": model.name, "ranks": n, "method": method}
            setting |= {"tiles": tiles, "repetitions": len(seconds)}
            figures.append(Figure("wall_s", median(seconds), "s", setting))
        yield figures


def print_results(figures: list[Figure], *, in_seconds: bool) -> None:
    """A line for each slide and number of ranks: seconds and what the last method gains; or efficiency."""
    found = {(f.setting["slide"], f.setting["ranks"], f.setting["method"], f.figure): f for f in figures}
    methods = list(dict.fromkeys(method for _, _, method, _ in found))
    columns = [(method, "wall_s" if in_seconds else "efficiency") for method in methods]
    if not in_seconds:
        columns += [(method, "efficiency_per_worker") for method in methods if method.startswith("pool")]
    names = [f"{method} per worker" if figure.endswith("worker") else method for method, figure in columns]

    def rows() -> Iterator[list[object]]:
        for slide, ranks in dict.fromkeys((slide, ranks) for slide, ranks, _, _ in found):
            here = [found[slide, ranks, method, figure] for method, figure in columns]
            cells = [f"{f.value:.2f} s" if in_seconds else f"{f.value:.3f}" for f in here]
            gain = [f"{here[0].value / here[-1].value:.2f}"] if in_seconds else []
            setting = here[0].setting
            yield [slide, ranks, setting["tiles"], setting.get("ideal_s", ""), *cells, *gain]

    print_table(["slide", "ranks", "tiles", "ideal s", *names, *(["gain"] if in_seconds else [])], rows())


def draw_plot(figures: list[Figure], prefix: Path, *, in_seconds: bool) -> None:
    """Seconds over ranks, a panel per slide; or efficiency over ranks. A line per method, as SVG and PNG."""
    shown = [f for f in figures if f.figure == ("wall_s" if in_seconds else "efficiency")]
    slides = list(dict.fromkeys(f.setting["slide"] for f in shown)) if in_seconds else [None]
    plot = Plot(figsize=(4 * len(slides), 3.5) if in_seconds else (7, 4.5), layout="constrained")
    for axes, slide in zip(plot.subplots(1, len(slides), squeeze=False)[0], slides, strict=True):
        here = sorted((f for f in shown if slide in (None, f.setting["slide"])), key=lambda f: f.setting["ranks"])
        ranks = list(dict.fromkeys(f.setting["ranks"] for f in here))
        for method in dict.fromkeys(f.setting["method"] for f in here):
            line = [(f.setting["ranks"], f.value) for f in here if f.setting["method"] == method]
            is_pool = method.startswith("pool")
            label = f"MPIPoolExecutor, chunk {method.removeprefix('pool-')}" if is_pool else method
            axes.plot(*zip(*line, strict=True), ":" if is_pool else "-", marker="o", label=label)
        axes.set_xscale("log", base=2)
        axes.set_xticks(ranks, [str(n) for n in ranks])
        axes.set_xlabel("MPI ranks")
        if in_seconds:
            ideal = {f.setting["ranks"]: f.setting["ideal_s"] for f in here if "ideal_s" in f.setting}
            axes.plot(ideal.keys(), ideal.values(), "k:", label="ideal" if ideal else None)
            axes.set(title=slide, ylabel="seconds", yscale="log")
        else:
            axes.set(ylabel="efficiency per rank (1 = ideal)", ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend()
    save_plot(plot, prefix, dpi=150)


def main() -> None:
    """Measure, print, plot."""
    options = parse_arguments()
    in_seconds = options.paper or options.pixels
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for found in (measure_pixels if options.pixels else measure_sleeping)(options, Path(folder)):
            figures += found
            report(figures, options.json)  # what is there, should the rest fail
            print(flush=True)
    print_results(figures, in_seconds=in_seconds)
    if options.plot is not None:
        draw_plot(figures, options.plot, in_seconds=in_seconds)


if __name__ == "__main__":
    main()
