"""A package like the shipped one, made by the program's own commands: ``synth``, ``train``, ``run``, ``tune``.

    python -m bench.paper.small_package --work FOLDER -o PACKAGE [--train 60] [--tune 10] [--test 10] [--size 8192]
        [--arch small-valid] [--from-finer]

Generated slides, a quarter of them without tumour, in three groups that share no slide. `train` gets the first and
splits it once more; the thresholds of levels 1 and up are chosen on the second by exhaustive runs; retention and
speedup of the third are in what `tune` prints. What lies in the folder from a run that was stopped is used again.
Training needs torch.
The card of the training stays with the untuned package in FOLDER/trained.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TUMOR_SHARES = (0.0, 0.12, 0.25, 0.4)
"""Of the tissue of the slides in turn."""
FIRST_SEED = 1000
"""Other benches begin at 500000, so that they measure on slides that no network was trained on."""


@dataclass(frozen=True)
class Plan:
    """How much of everything.

    Attributes
    ----------
    groups
        Numbers of slides to train on, to choose thresholds on, to test on.
    size
        Side of a slide in pixels.
    architecture, epochs, tiles, learning_rate, from_finer
        What `train` is told; tiles are per slide, level and class.
    objective
        Share of the true positives that the pyramid should keep on the second group.
    """

    groups: tuple[int, int, int] = (60, 10, 10)
    size: int = 8192
    architecture: str = "small"
    epochs: int = 30
    tiles: int = 200
    learning_rate: float = 1e-3
    from_finer: bool = False
    objective: float = 0.98


def pyramidai(*words: object) -> None:
    """Run one command of the program, and say so."""
    texts = [str(word) for word in words]
    print("$ pyramidai", shlex.join(texts), flush=True)
    subprocess.run([sys.executable, "-m", "pyramidai_mpi", *texts], check=True)


def slides_of(plan: Plan, folder: Path) -> list[list[Path]]:
    """The slides of each group, those that are missing generated with their truth beside them."""
    groups: list[list[Path]] = []
    for number in plan.groups:
        first = FIRST_SEED + sum(map(len, groups))
        groups.append([folder / f"slide-{seed}.tif" for seed in range(first, first + number)])
    for k, slide in enumerate(path for group in groups for path in group):
        if not slide.exists():
            share, seed = TUMOR_SHARES[k % len(TUMOR_SHARES)], FIRST_SEED + k
            size = f"{plan.size}x{plan.size}"
            pyramidai("synth", slide, "--size", size, "--seed", seed, "--tumor-share", share)
    return groups


def make_package(plan: Plan, work: Path, package: Path) -> None:
    """Generate, train, analyse, tune; what is there already is not made anew."""
    slides = work / "slides"
    slides.mkdir(parents=True, exist_ok=True)
    train, tune, test = slides_of(plan, slides)
    trained = work / "trained" / package.name  # a package is named after its folder
    if not trained.exists():
        words = ["--arch", plan.architecture, "--epochs", plan.epochs, "--tiles", plan.tiles]
        words += ["--learning-rate", plan.learning_rate, *(["--from-finer"] if plan.from_finer else [])]
        words += ["--resume", "--ranks", "auto"]
        pyramidai("train", *train, "--truth", slides, *words, "--intended-use", "demonstration", "-o", trained)
    for name, group in (("tune", tune), ("test", test)):
        (work / name).mkdir(exist_ok=True)
        pyramidai("run", *group, "--model", trained, "--mode", "exhaustive", "--results-dir", work / name)
    tests = [word for slide in test for word in ("--test", work / "test" / f"{slide.stem}.h5")]
    chosen = ["--objective", plan.objective, "--from-below", "--model", trained, "-o", package]
    pyramidai("tune", work / "tune", "--truth", slides, *tests, *chosen)


def main() -> None:
    """Read the command line and make it."""
    plan = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of slides, states and results")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the package")
    for name, number in zip(("train", "tune", "test"), plan.groups, strict=True):
        parser.add_argument(f"--{name}", type=int, default=number, help="slides of that group")
    parser.add_argument("--size", type=int, default=plan.size, help="side of a slide in pixels")
    parser.add_argument("--arch", default=plan.architecture, help="as `train` has it")
    parser.add_argument("--from-finer", action="store_true", help="as `train` has it")
    parser.add_argument("--epochs", type=int, default=plan.epochs)
    parser.add_argument("--tiles", type=int, default=plan.tiles)
    options = parser.parse_args()
    groups = (options.train, options.tune, options.test)
    how = (options.size, options.arch, options.epochs, options.tiles, plan.learning_rate, options.from_finer)
    make_package(Plan(groups, *how), options.work, options.output)


if __name__ == "__main__":
    main()
