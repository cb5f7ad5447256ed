"""From the loop that others run to ours, one change at a time, on the same slides with the same trained network.

    python -m bench.speed.comparison SLIDE... --work WORK [--cores 2] [--repetitions 3] [--json FILE]

WORK is what `bench.paper.paper_network` made; the slides are generated ones of other seeds. On `--cores` cores, in
turn:

- the WSInfer-like loop (`bench.speed.wsinfer_like`) over every tissue tile at full resolution, torch in float32;
- ours over the same tiles with onnxruntime in float32 and OpenSlide (engine and scheduler), then with our reader
  (reading), in integers (precision), in OpenVINO (backend), and the pyramid (tiles);
- the paper's loop (`bench.speed.paper_like`), one tile a call, on one core.

The first is an imitation, to show what each change brings by itself; the programs themselves are in `bench.peers`.

Every command is timed from launch to exit; the WSInfer-like loop also without its start. Positives are the WSInfer-like
loop's tiles at the threshold of level 0; kept are those that the pyramid calls positive.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

import h5py
import numpy as np

from bench.command_line import Options, command_line
from bench.figures import Figure, report
from pyramidai_mpi.models.package import load_package


@dataclass(frozen=True)
class Step:
    """One way of ours: its name, the package below WORK, and options of `run`."""

    name: str
    package: str
    options: tuple[str, ...]


_REFERENCE = ("--mode", "reference")
_PLAIN = ("--backend", "onnxruntime")
STEPS = [
    Step("engine", "inception-tuned", (*_REFERENCE, *_PLAIN, "--reader", "openslide", "--read-ahead", "never")),
    Step("reading", "inception-tuned", (*_REFERENCE, *_PLAIN)),
    Step("precision", "inception-int8", (*_REFERENCE, *_PLAIN)),
    Step("backend", "inception-int8", (*_REFERENCE, "--backend", "openvino")),
    Step("pyramid", "inception-int8", ("--backend", "openvino")),
]
OTHERS = "WSInfer-like loop"
PAPER = "paper's loop, 1 core"


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slides", type=Path, nargs="+")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=3)
    arguments = parser.parse_args()
    figures = []
    for slide in arguments.slides:
        figures += compare(slide, arguments)
    report(figures, arguments.json)


def compare(slide: Path, arguments: Options) -> list[Figure]:
    """All ways on one slide."""
    work: Path = arguments.work
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        results = {step.name: Path(folder) / f"{step.name}.h5" for step in STEPS}
        scores = Path(folder) / "scores.npz"
        for _ in range(arguments.repetitions):
            for step in STEPS:
                words = ["mpirun", "-n", str(arguments.cores), sys.executable, "-m", "pyramidai_mpi", "run", str(slide)]
                words += ["--model", str(work / step.package), *step.options, "-o", str(results[step.name])]
                seconds[step.name].append(timed([*words, "--overwrite", "-q"])[0])
            state = work / "inception.work" / "level0.state.pt"
            words = [sys.executable, "-m", "bench.speed.wsinfer_like", str(results["engine"]), "--slide", str(slide)]
            words += ["--state", str(state), "-o", str(scores), "--threads", str(arguments.cores)]
            wall, said = timed(words)
            seconds[OTHERS].append(wall)
            seconds[f"{OTHERS}, without its start"].append(json.loads(said)["loop_s"])
            words = [sys.executable, "-m", "bench.speed.paper_like", str(slide)]
            words += ["--model", str(work / "inception-tuned")]
            seconds[PAPER].append(json.loads(timed(words)[1])["loop_s"])
        tiles = {name: sum(count_tiles(path)) for name, path in results.items()}
        threshold = load_package(work / "inception-tuned").levels[0].threshold
        positives, kept = kept_positives(scores, results["pyramid"], threshold)
    setting = {"slide": slide.name, "cores": arguments.cores}
    figures = [Figure(f"{name}: seconds", median(seen), "s", setting) for name, seen in seconds.items()]
    figures += [Figure(f"{name}: tiles", count, "", setting) for name, count in tiles.items()]
    names = [OTHERS, *(step.name for step in STEPS)]
    for before, after in pairwise(names):
        gains = [a / b for a, b in zip(seconds[before], seconds[after], strict=True)]
        figures.append(Figure(f"{after}: times faster than {before}", median(gains), "", setting))
    for other in (OTHERS, f"{OTHERS}, without its start"):
        gains = [a / b for a, b in zip(seconds[other], seconds["pyramid"], strict=True)]
        figures.append(Figure(f"all together: times faster than {other}", median(gains), "", setting))
    figures.append(Figure("positives of the WSInfer-like loop", positives, "", setting))
    figures.append(Figure("positives kept by the pyramid", kept / positives if positives else np.nan, "", setting))
    return figures


def timed(words: list[str]) -> tuple[float, str]:
    """Wall seconds of a command from launch to exit, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, done.stdout


def count_tiles(result: Path) -> list[int]:
    """Analysed tiles per level."""
    with h5py.File(result) as file:
        return [len(file[f"levels/{level}/index"]) for level in range(len(file["levels"]))]


def kept_positives(scores: Path, result: Path, threshold: float) -> tuple[int, int]:
    """Positive tiles of the loop, and those of them that are positive in the result."""
    with np.load(scores) as loop:
        corners, positive = loop["corners"], loop["scores"] >= threshold
    with h5py.File(result) as file:
        level = file["levels/0"]
        ours = set(map(tuple, level["coords"][:][level["decision"][:] == 1].tolist()))
    wanted = [tuple(corner) for corner in corners[positive].tolist()]
    return len(wanted), sum(corner in ours for corner in wanted)


if __name__ == "__main__":
    main()
