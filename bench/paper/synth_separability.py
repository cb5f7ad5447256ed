"""How much of a generated slide's tumour is colour, and how much the shipped networks see beyond it.

    python -m bench.paper.synth_separability [--slides N] [--seed S] [--json FILE]

In one run, on fresh slides that no network was trained on: a logistic regression on each tile's means and variances of
red, green and blue, fitted on every second slide and tested on the others, and back; and the networks, on all of them.
Accuracy is balanced: the mean of the shares of tumour tiles and of normal tiles that are called right. A tile of level
0 is tumour when half of its tissue is; above, when any level-0 descendant is.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
import yaml

from bench.figures import Figure, report
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.training.colour import ColourClassifier, balanced_accuracy, colour_features
from pyramidai_mpi.training.thresholds import analyse_exhaustively, measure_retention
from pyramidai_mpi.training.tiles import LEVELS, TileSet, draw_tiles, join, load_slide

SHARES = (0.12, 0.25, 0.4)
PER_CLASS = (150, 80, 40)
BATCH = 32


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[2] / "models" / "small")
    parser.add_argument("--slides", type=int, default=8)
    parser.add_argument("--size", type=int, default=8192, help="side of a slide in pixels")
    parser.add_argument("--seed", type=int, default=500_000, help="of the first slide; training used 1000 and up")
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


class Networks:
    """The networks of a package, each on one thread."""

    def __init__(self, folder: Path) -> None:
        package = yaml.safe_load((folder / "model.yaml").read_text(encoding="utf-8"))
        self.name = package["name"]
        self.thresholds = [level["threshold"] for level in package["levels"]]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._sessions = [
            onnxruntime.InferenceSession(folder / level["onnx"], options, providers=["CPUExecutionProvider"])
            for level in package["levels"]
        ]

    def probability(self, level: int, pixels: np.ndarray) -> np.ndarray:
        """Probability of tumour, float32 (N,)."""
        session = self._sessions[level]
        name = session.get_inputs()[0].name
        parts = [
            session.run(["probabilities"], {name: pixels[start : start + BATCH]})[0][:, 1]
            for start in range(0, len(pixels), BATCH)
        ]
        return np.concatenate(parts)


def colour_accuracy(sets: list[TileSet]) -> float:
    """Fitted on every second slide, tested on the others, and back: the mean of both."""
    accuracies = []
    for k in (0, 1):
        train, test = join(sets[k::2]), join(sets[1 - k :: 2])
        classifier = ColourClassifier(colour_features(train.pixels), train.leads_to_tumor)
        accuracies.append(balanced_accuracy(classifier.predict(colour_features(test.pixels)), test.leads_to_tumor))
    return float(np.mean(accuracies))


def measure(options: argparse.Namespace, folder: Path) -> list[Figure]:
    """Every figure of the bench."""
    networks = Networks(options.model)
    sets: list[list[TileSet]] = [[] for _ in LEVELS]
    grids = []
    for k in range(options.slides):
        path = folder / f"{k}.tif"
        spec = SynthSpec(options.size, options.size, seed=options.seed + k, tumor_share=SHARES[k % len(SHARES)])
        write_slide(spec, path)
        slide = load_slide(path)
        rng = np.random.default_rng(spec.seed)
        for level in LEVELS:
            sets[level].append(draw_tiles(slide, level, PER_CLASS[level], rng))
        grids.append(analyse_exhaustively(slide, networks.probability))
        path.unlink()
    common = {"slides": options.slides, "size": options.size, "first_seed": options.seed, "model": networks.name}
    figures = []
    for level in LEVELS:
        tiles = join(sets[level])
        setting = {"level": level, "tiles": len(tiles), **common}
        right = balanced_accuracy(networks.probability(level, tiles.pixels) >= 0.5, tiles.leads_to_tumor)
        figures.append(Figure("network_accuracy", right, "share", setting))
        figures.append(Figure("colour_accuracy", colour_accuracy(sets[level]), "share", setting))
    retention = measure_retention(grids, networks.thresholds)
    figures.append(Figure("positive_retention_rate", retention.rate, "share", common))
    figures.append(Figure("speedup_tiles", retention.speedup, "times", common))
    return figures


if __name__ == "__main__":
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as scratch:
        report(measure(arguments, Path(scratch)), arguments.json)
