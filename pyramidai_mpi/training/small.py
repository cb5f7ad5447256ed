"""Make the shipped model package: ``python -m pyramidai_mpi.training.small --out models/small``.

Generates slides, cuts tiles, trains a network per level, chooses thresholds on slides of their own, tests on others,
writes the package and its card.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.training.colour import ColourClassifier, balanced_accuracy, colour_features
from pyramidai_mpi.training.package import LevelScore, TrainingRecord, write_card, write_package
from pyramidai_mpi.training.thresholds import (
    Retention,
    analyse_exhaustively,
    choose_thresholds,
    measure_retention,
)
from pyramidai_mpi.training.tiles import LEVELS, TILE, TileSet, draw_tiles, join, load_slide
from pyramidai_mpi.training.weights import load_weights, save_weights, to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from pyramidai_mpi.training.thresholds import LevelGrid
    from pyramidai_mpi.training.tiles import U8
    from pyramidai_mpi.training.weights import NetworkWeights

_log = logging.getLogger(__name__)

TUMOR_SHARES = (0.0, 0.12, 0.25, 0.4)
"""Of the slides in turn: one in four is normal."""

_PER_CLASS = (90, 90, 80)
_OVERLAP = (1, 2, 3)
_KEEP = 0.985
"""Share of true positive level-0 tiles that each level above may not lose."""


@dataclass(frozen=True)
class TrainingPlan:
    """How much to train: numbers of slides, their side in pixels, passes, first seed."""

    train_slides: int = 60
    tune_slides: int = 10
    test_slides: int = 10
    size: int = 8192
    epochs: int = 10
    first_seed: int = 1000

    def __post_init__(self) -> None:
        if min(self.train_slides, self.tune_slides, self.test_slides) < 2:
            raise UsageError("training: fewer than two slides to train, tune or test; one of each class is needed")

    def seeds(self) -> tuple[range, range, range]:
        """Seeds of the slides to train, to tune and to test: never shared."""
        a = self.first_seed + self.train_slides
        b = a + self.tune_slides
        return range(self.first_seed, a), range(a, b), range(b, b + self.test_slides)


def train_package(out: Path, plan: TrainingPlan, slides: Path, command: str) -> TrainingRecord:
    """Train, choose thresholds, test, and write the package.

    Parameters
    ----------
    out
        Folder of the package.
    plan
        How much of everything.
    slides
        Where generated slides and trained networks go; those already there are used again.
    command
        For the card.
    """
    # torch is optional and slow to import: only who trains pays for it
    from pyramidai_mpi.training.network import fit, predict

    start = time.monotonic()
    train_seeds, tune_seeds, test_seeds = plan.seeds()
    networks: list[NetworkWeights] = []
    train_sets = _tile_sets(train_seeds, plan, slides)
    for level in LEVELS:
        tiles = train_sets[level]
        _log.info("level %d: %d tiles, %.2f positive", level, len(tiles), tiles.leads_to_tumor.mean())
        kept = slides / f"network-{plan.train_slides}x{plan.size}-{plan.epochs}-level{level}.npz"
        if not kept.exists():
            weights = fit(
                tiles.pixels,
                tiles.leads_to_tumor,
                epochs=plan.epochs,
                seed=plan.first_seed + level,
                progress=lambda epoch, loss: _log.info("pass %d: loss %.4f", epoch, loss),
            )
            save_weights(weights, kept)
        networks.append(load_weights(kept))

    def score(level: int, pixels: U8) -> NDArray[np.float32]:
        return predict(networks[level], pixels)

    tuning = list(_grids(tune_seeds, plan, slides, score))
    thresholds = choose_thresholds(tuning, _KEEP)
    _log.info("thresholds %s, on tuning slides %s", thresholds, _told(measure_retention(tuning, thresholds)))
    test_sets = _tile_sets(test_seeds, plan, slides)
    scores = tuple(_score_level(networks[level], train_sets[level], test_sets[level], level) for level in LEVELS)
    retention = measure_retention(list(_grids(test_seeds, plan, slides, score)), thresholds)
    _log.info("test slides: %s", _told(retention))
    graphs = [to_onnx(weights, f"small-level{level}", TILE) for level, weights in enumerate(networks)]
    write_package(out, "small", graphs, thresholds)
    record = TrainingRecord(
        command=command,
        seeds=tuple((seeds[0], seeds[-1]) for seeds in plan.seeds()),  # type: ignore[arg-type]
        size=plan.size,
        epochs=tuple(plan.epochs for _ in LEVELS),
        tiles=tuple(len(train_sets[level]) for level in LEVELS),
        minutes=(time.monotonic() - start) / 60,
        scores=scores,
        retention=retention,
    )
    write_card(out / "README.md", record, networks, thresholds)
    return record


def _told(retention: Retention) -> str:
    return f"retention {retention.rate:.4f}, speedup {retention.speedup:.2f}"


def _slide_path(seed: int, plan: TrainingPlan, folder: Path) -> Path:
    path = folder / f"slide-{seed}.tif"
    if not path.exists():
        share = TUMOR_SHARES[(seed - plan.first_seed) % len(TUMOR_SHARES)]
        write_slide(SynthSpec(plan.size, plan.size, seed=seed, tumor_share=share), path, overwrite=True)
        _log.info("generated %s", path.name)
    return path


def _tile_sets(seeds: Iterable[int], plan: TrainingPlan, folder: Path) -> list[TileSet]:
    parts: list[list[TileSet]] = [[] for _ in LEVELS]
    for seed in seeds:
        slide = load_slide(_slide_path(seed, plan, folder))
        rng = np.random.default_rng(seed)
        for level in LEVELS:
            parts[level].append(draw_tiles(slide, level, _PER_CLASS[level], rng, overlap=_OVERLAP[level]))
    return [join(level_parts) for level_parts in parts]


def _grids(
    seeds: Iterable[int],
    plan: TrainingPlan,
    folder: Path,
    score: Callable[[int, U8], NDArray[np.float32]],
) -> Iterable[list[LevelGrid]]:
    for seed in seeds:
        yield analyse_exhaustively(load_slide(_slide_path(seed, plan, folder)), score)


def _score_level(weights: NetworkWeights, train: TileSet, test: TileSet, level: int) -> LevelScore:
    from pyramidai_mpi.training.network import predict

    network = balanced_accuracy(predict(weights, test.pixels) >= 0.5, test.leads_to_tumor)
    # seven weights need no more than every fourth tile
    classifier = ColourClassifier(colour_features(train.pixels[::4]), train.leads_to_tumor[::4])
    colour = balanced_accuracy(classifier.predict(colour_features(test.pixels)), test.leads_to_tumor)
    _log.info("level %d: accuracy %.4f, colour alone %.4f, %d tiles", level, network, colour, len(test))
    return LevelScore(network, colour, len(test))


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line of the script."""
    default = TrainingPlan()
    parser = argparse.ArgumentParser(prog="python -m pyramidai_mpi.training.small", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the package")
    parser.add_argument("--slides", type=Path, help="keep slides and networks here, and use those already there")
    parser.add_argument("--train-slides", type=int, default=default.train_slides)
    parser.add_argument("--tune-slides", type=int, default=default.tune_slides)
    parser.add_argument("--test-slides", type=int, default=default.test_slides)
    parser.add_argument("--size", type=int, default=default.size, help="side of a slide in pixels")
    parser.add_argument("--epochs", type=int, default=default.epochs)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    plan = TrainingPlan(options.train_slides, options.tune_slides, options.test_slides, options.size, options.epochs)
    command = "python -m pyramidai_mpi.training.small --out models/small"
    if options.slides is not None:
        options.slides.mkdir(parents=True, exist_ok=True)
        train_package(options.out, plan, options.slides, command)
        return
    with tempfile.TemporaryDirectory() as folder:
        train_package(options.out, plan, Path(folder), command)


if __name__ == "__main__":
    main()
