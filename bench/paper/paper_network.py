"""The paper's network trained on generated slides, in integers and with tuned thresholds: of bench.speed.comparison.

    python -m bench.paper.paper_network WORK

Makes WORK/slides (40 slides to train, a quarter without tumour), WORK/inception (three levels in float32) with
WORK/inception.work (weights as torch keeps them), WORK/tuning (8 slides and their exhaustive results), and the packages
WORK/inception-tuned and WORK/inception-int8, both with thresholds tuned to `OBJECTIVE`. What is there already is left
alone, so a stopped run goes on. Eight epochs of a level were seen to take 15 to 24 minutes on two cores.

    python -m bench.paper.paper_network WORK --coarser models/small

trains level 0 alone (WORK/inception-level0) and takes the coarser levels' networks from another package: WORK/mixed,
WORK/mixed-tuned and WORK/mixed-int8. A network that only says where to look may be a small one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import yaml

from bench.command_line import command_line
from pyramidai_mpi.models.engines.backends import installed_backends
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.write import write_package

TUMOR_SHARES = (0.0, 0.12, 0.25, 0.4)
SIDE = 8192
TRAINING_SEEDS = range(3000, 3040)
TUNING_SEEDS = range(3100, 3108)
CALIBRATING = 4
"""Slides whose tissue calibrates the integers, of those to tune on."""
OBJECTIVE = 0.97
"""Retention that thresholds are tuned to, above the 0.90 that is to be kept, as other slides keep less."""


def main() -> None:
    """Make what is missing."""
    parser = command_line(__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--coarser", type=Path, metavar="PACKAGE", help="whose networks levels above 0 take")
    options = parser.parse_args()
    work: Path = options.work
    mixed = options.coarser is not None
    package = work / ("inception-level0" if mixed else "inception")
    if not package.exists():
        training = generated(work / "slides", TRAINING_SEEDS)
        words = ["train", *map(str, training), "--truth", str(work / "slides"), "-o", str(package)]
        # from random weights: a larger step and coarser levels that go on from finer ones make up for few tiles
        words += ["--arch", "inception_v3", "--tiles", "40", "--epochs", "8", "--learning-rate", "3e-4"]
        words += ["--resume", "--ranks", "auto"]
        words += ["--min-share", "0.25", "--precision", "bfloat16", "--from-finer", "--seed", "1"]
        run([*words, "--levels", "1"] if mixed else words)
    if mixed:
        package = with_coarser(package, options.coarser, work / "mixed")
    tuning = generated(work / "tuning", TUNING_SEEDS)
    integers = work / f"{package.name}-int8-untuned"
    if not integers.exists():
        chosen = [word for slide in tuning[-CALIBRATING:] for word in ("--calibrate", str(slide))]
        run(["models", "quantize", str(package), *chosen, "--max-changed", "0.05", "-o", str(integers)])
    tune(package, tuning, work / f"{package.name}-tuned", "onnxruntime")
    tune(integers, tuning, work / f"{package.name}-int8", installed_backends()[-1])


def with_coarser(finest: Path, coarser: Path, package: Path) -> Path:
    """A package with level 0 of one and the levels above it of another."""
    if not package.exists():
        ours, theirs = read_package(finest), read_package(coarser)
        document = yaml.safe_load(ours.yaml_text)
        levels = yaml.safe_load(theirs.yaml_text)["levels"][1:]
        document["levels"] = [document["levels"][0], *levels]
        write_package(package, document, [ours.levels[0].onnx_path, *(one.onnx_path for one in theirs.levels[1:])])
        read_package(package)
    return package


def generated(folder: Path, seeds: range) -> list[Path]:
    """Slides of these seeds with their truth."""
    folder.mkdir(parents=True, exist_ok=True)
    slides = []
    for number, seed in enumerate(seeds):
        slide = folder / f"generated{seed}.tif"
        share = TUMOR_SHARES[number % len(TUMOR_SHARES)]
        if not slide.exists():
            words = ["synth", str(slide), "--size", f"{SIDE}x{SIDE}", "--seed", str(seed)]
            run([*words, "--tumor-share", f"{share}", "-q"])
        slides.append(slide)
    return slides


def tune(package: Path, slides: list[Path], tuned: Path, backend: str) -> None:
    """Write a copy of a package with thresholds for `OBJECTIVE`."""
    if tuned.exists():
        return
    results = tuned.with_name(f"{tuned.name}.results")
    results.mkdir(exist_ok=True)
    words = ["run", *map(str, slides), "--model", str(package), "--backend", backend, "--mode", "exhaustive"]
    run([*words, "--results-dir", str(results), "-q"])
    words = ["tune", str(results), "--truth", str(slides[0].parent), "--model", str(package), "-o", str(tuned)]
    run([*words, "--objective", f"{OBJECTIVE}", "--from-below"])


def run(words: list[str]) -> None:
    """One command of the program."""
    print("$ pyramidai", " ".join(words[:3]), "...", flush=True)
    subprocess.run([sys.executable, "-m", "pyramidai_mpi", *words], check=True)


if __name__ == "__main__":
    main()
