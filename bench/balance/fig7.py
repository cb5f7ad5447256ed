"""The paper's Fig. 7: time to analyse three slides on 1 to 12 ranks, with and without work stealing.

    python -m bench.balance.fig7 [--outlines FILE] [--json FILE] [--plot PREFIX]     tiles that sleep
    python -m bench.balance.fig7 --pixels [--model DIR] [--json FILE]         real pixels and networks, 1 and 2 ranks

Slides as in the paper: one with large tumours, one with several small ones, one without any. Sleeping tiles take 0.33 s
each, scaled down; their trees come from real lesions (see `bench.paper.lesions`). Real pixels come from generated
slides. Starts mpirun itself; medians of three repetitions, with and without stealing in turn.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from pathlib import Path
from statistics import median

import h5py

from bench.balance.balance import BATCH_SIZE, FALSE_ALARMS, ROOTS, rows_of
from bench.figures import Figure, report
from bench.paper.lesions import LEVELS, OUTLINES, build_tree, load_outlines
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import mpirun

TILE_S = 0.33
SLIDES = {"large tumours": "tumor_011", "several small": "tumor_003", "negative": None}
SHARES = {"large tumours": 0.4, "several small": 0.05, "negative": 0.0}
METHODS = ("static", "steal-half")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default=None, help="by commas; 1,2,3,4,6,8,12 unless given, 1,2 with --pixels")
    parser.add_argument("--scale", type=float, default=1 / 200, help=f"of the {TILE_S} s that a tile takes")
    parser.add_argument("--outlines", type=Path, default=OUTLINES, help="JSON of lesion outlines, may be gzipped")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--pixels", action="store_true", help="real pixels and networks instead of sleeping tiles")
    parser.add_argument("--side", type=int, default=12000, help="of the generated slides, pixels")
    parser.add_argument("--model", type=Path, default=None)
    parser.add_argument("--json", type=Path, default=None)
    parser.add_argument("--plot", type=Path, default=None, help="write PREFIX.svg and PREFIX.png")
    return parser.parse_args()


def measure_sleeping(options: argparse.Namespace, ranks: list[int], folder: Path) -> list[Figure]:
    """Wall seconds of the scaled-down slides."""
    outlines = load_outlines(options.outlines)
    figures = []
    seconds = options.scale * TILE_S
    for name, slide in SLIDES.items():
        path = folder / f"{name}.npz"
        build_tree(outlines[slide] if slide else {}, ROOTS, FALSE_ALARMS).save(path)
        program = ["-m", "bench.balance.sleeping", path, "--seconds", ",".join([str(seconds)] * LEVELS)]
        program += ["--methods", ",".join(METHODS), "--batch-size", str(BATCH_SIZE)]
        program += ["--ranks", ",".join(map(str, ranks)), "--repetitions", str(options.repetitions)]
        rows = rows_of(max(ranks), program)
        for n in ranks:
            for method in METHODS:
                runs = [row for row in rows if row["ranks"] == n and row["method"] == method]
                setting = {"slide": name, "outlines": slide, "ranks": n, "method": method, "tiles": runs[0]["tiles"]}
                setting |= {"tile_s": seconds, "ideal_s": round(runs[0]["nominal_s"] / n, 3), "repetitions": len(runs)}
                figures.append(Figure("sleeping tiles", median(row["wall_s"] for row in runs), "s", setting))
    return figures


def measure_pixels(options: argparse.Namespace, ranks: list[int], folder: Path) -> list[Figure]:
    """Seconds of the analysis phase of whole runs over generated slides."""
    figures = []
    model = options.model or default_model()
    for seed, (name, share) in enumerate(SHARES.items(), start=1):
        slide, output = folder / f"{seed}.tif", folder / f"{seed}.h5"
        write_slide(SynthSpec(options.side, options.side, seed=seed, tumor_share=share), slide)
        found: dict[tuple[int, str], list[float]] = {}
        tiles = 0
        for _ in range(options.repetitions):
            for n in ranks:
                for method in METHODS:
                    run_program(n, ["run", slide, "--model", model, "-o", output, "--policy", method, "--overwrite"])
                    with h5py.File(output) as result:
                        found.setdefault((n, method), []).append(float(result["execution"].attrs["analyse_s"]))
                        tiles = sum(len(level["index"]) for level in result["levels"].values())
        for (n, method), seconds in found.items():
            setting = {"slide": name, "side": options.side, "model": model.name, "ranks": n, "method": method}
            setting |= {"tiles": tiles, "repetitions": len(seconds)}
            figures.append(Figure("real pixels", median(seconds), "s", setting))
    return figures


def run_program(ranks: int, arguments: list[str | Path]) -> None:
    """Run the program itself on `ranks` ranks.

    Raises
    ------
    SystemExit
        It failed.
    """
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        job = mpirun(ranks, ["-m", "pyramidai_mpi", *arguments, "-q"], timeout=1800)
    if job.returncode:
        raise SystemExit(f"{' '.join(job.args)} ended with {job.returncode}\n{job.stderr}")


def print_table(figures: list[Figure]) -> None:
    """Seconds as Markdown: a line per slide and number of ranks."""
    print(f"| slide | ranks | tiles | {' | '.join(METHODS)} | gain |\n|{' --- |' * (len(METHODS) + 4)}")
    found = {(f.setting["slide"], f.setting["ranks"], f.setting["method"]): f for f in figures}
    for slide, ranks in dict.fromkeys((slide, ranks) for slide, ranks, _ in found):
        both = [found[slide, ranks, method] for method in METHODS]
        cells = " | ".join(f"{figure.value:.2f} s" for figure in both)
        gain = both[0].value / both[1].value
        print(f"| {slide} | {ranks} | {both[0].setting['tiles']} | {cells} | {gain:.2f} |")


def draw_plot(figures: list[Figure], prefix: Path) -> None:
    """Seconds over ranks, a panel per slide, as SVG and PNG."""
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError:
        raise SystemExit("the plot needs matplotlib: pip install matplotlib, or leave --plot away") from None
    slides = list(dict.fromkeys(f.setting["slide"] for f in figures))
    plot, panels = plt.subplots(1, len(slides), figsize=(4 * len(slides), 3.5), layout="constrained", squeeze=False)
    for axes, slide in zip(panels[0], slides, strict=True):
        for method in METHODS:
            here = [f for f in figures if f.setting["slide"] == slide and f.setting["method"] == method]
            axes.plot([f.setting["ranks"] for f in here], [f.value for f in here], marker="o", label=method)
        if "ideal_s" in here[0].setting:
            axes.plot([f.setting["ranks"] for f in here], [f.setting["ideal_s"] for f in here], "k:", label="ideal")
        axes.set(title=slide, xlabel="MPI ranks", ylabel="seconds", xscale="log", yscale="log")
        axes.set_xticks([f.setting["ranks"] for f in here], [str(f.setting["ranks"]) for f in here], minor=False)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    for suffix in (".svg", ".png"):
        plot.savefig(prefix.with_suffix(suffix), dpi=150)


def main() -> None:
    """Measure, print, plot."""
    options = parse_arguments()
    ranks = options.ranks or ("1,2" if options.pixels else "1,2,3,4,6,8,12")
    measure = measure_pixels if options.pixels else measure_sleeping
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, [int(n) for n in ranks.split(",")], Path(folder))
    report(figures, options.json)
    print()
    print_table(figures)
    if options.plot is not None:
        draw_plot(figures, options.plot)


if __name__ == "__main__":
    main()
