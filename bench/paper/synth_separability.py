"""How much of a generated slide's tumour is colour, and how much a package's networks see beyond it.

    python -m bench.paper.synth_separability [--model DIR] [--slides N] [--seed S] [--json FILE]

In one run, on fresh slides that no network was trained on: a logistic regression on each tile's means and variances of
red, green and blue, fitted on every second slide and tested on the others, and back; and the networks, on the same
tiles. Accuracy is balanced: the mean of the shares of tumour tiles and of normal tiles that are called right. A tile of
level 0 is tumour when half of its tissue is; above, when any level-0 descendant is.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bench.figures import Figure, report
from bench.paper.small_package import pyramidai
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.models.package import ModelPackage, load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.run.opening import open_under
from pyramidai_mpi.run.sampling import read_tiles
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.tuning.labelled_slides import read_labelled_slides

if TYPE_CHECKING:
    from pyramidai_mpi.truth.labelled_tree import LabelledLevel

SHARES = (0.12, 0.25, 0.4)
PER_CLASS = (150, 80, 40)
"""Most tiles of each class of a slide that are compared, level 0 first; coarser levels than these have as many as the
last."""


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=default_model())
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--size", type=int, default=8192, help="side of a slide in pixels")
    parser.add_argument("--seed", type=int, default=500_000, help="of the first slide; training used 1000 and up")
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


def colour_features(pixels: np.ndarray) -> np.ndarray:
    """Means and variances of the three colours, uint8 (N, H, W, 3) -> float64 (N, 6)."""
    scaled = [tile.reshape(-1, 3) / 255 for tile in pixels]
    return np.array([np.concatenate([tile.mean(axis=0), tile.var(axis=0)]) for tile in scaled])


def draw(level: LabelledLevel, per_class: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of at most so many tiles of each class, without replacement."""
    return np.concatenate([rng.permutation(np.flatnonzero(level.positive == kind))[:per_class] for kind in (0, 1)])


def colour_accuracy(features: list[np.ndarray], positive: list[np.ndarray]) -> float:
    """Fitted on every second slide, tested on the others, and back: the mean of both."""
    accuracies = []
    for k in (0, 1):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
        classifier.fit(np.concatenate(features[k::2]), np.concatenate(positive[k::2]))
        called = classifier.predict(np.concatenate(features[1 - k :: 2]))
        accuracies.append(balanced_accuracy_score(np.concatenate(positive[1 - k :: 2]), called))
    return float(np.mean(accuracies))


def features_of(slide: Path, package: ModelPackage, chosen: list[np.ndarray]) -> list[np.ndarray]:
    """Colour features of tiles (col, row) of each level."""
    opened = open_under(SlideInput(slide), package)
    try:
        tiles = (tiles_at(level, index) for level, index in enumerate(chosen))
        return [colour_features(read_tiles(opened.pyramid, of_level)[0]) for of_level in tiles]
    finally:
        opened.pyramid.reader.close()


def measure(options: argparse.Namespace, folder: Path) -> list[Figure]:
    """Every figure of the bench."""
    package = load_package(options.model)
    slides = [folder / f"{k}.tif" for k in range(options.slides)]
    for k, slide in enumerate(slides):
        share = SHARES[k % len(SHARES)]
        write_slide(SynthSpec(options.size, options.size, seed=options.seed + k, tumor_share=share), slide)
    pyramidai("run", *slides, "--model", package.folder, "--mode", "exhaustive", "--results-dir", folder, "-q")
    cohort = read_labelled_slides([slide.with_suffix(".h5") for slide in slides], folder, from_below=True).cohort
    features: list[list[np.ndarray]] = [[] for _ in package.levels]
    scores: list[list[np.ndarray]] = [[] for _ in package.levels]
    positive: list[list[np.ndarray]] = [[] for _ in package.levels]
    for k, (slide, tree) in enumerate(zip(slides, cohort.trees, strict=True)):
        rng = np.random.default_rng(options.seed + k)
        rows = [draw(level, PER_CLASS[min(n, len(PER_CLASS) - 1)], rng) for n, level in enumerate(tree.levels)]
        index = [level.index[chosen] for level, chosen in zip(tree.levels, rows, strict=True)]
        for n, found in enumerate(features_of(slide, package, index)):
            features[n].append(found)
            scores[n].append(tree.levels[n].score[rows[n]])
            positive[n].append(tree.levels[n].positive[rows[n]])
    common = {"slides": options.slides, "size": options.size, "first_seed": options.seed, "model": package.name}
    figures = []
    for n in range(package.n_levels):
        truth, called = np.concatenate(positive[n]), np.concatenate(scores[n]) >= 0.5
        setting = {"level": n, "tiles": len(truth), **common}
        figures.append(Figure("network_accuracy", float(balanced_accuracy_score(truth, called)), "share", setting))
        figures.append(Figure("colour_accuracy", colour_accuracy(features[n], positive[n]), "share", setting))
    pyramid = cohort.measure([level.threshold for level in package.levels])
    figures.append(Figure("positive_retention_rate", pyramid.pooled_retention, "share", common))
    figures.append(Figure("speedup_tiles", pyramid.pooled_speedup, "times", common))
    return figures


if __name__ == "__main__":
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        report(measure(arguments, Path(scratch)), arguments.json)
