"""Does it help to train encoder and aggregator together? Against the same encoder left as it is.

The encoder was trained on tiles of slides of one kind, whose outlines are known: the shipped demonstration model's
level 1. Then there are slides of another kind, each stained in a way of its own, of which only the label is known, and
which few of their tiles show. On these an aggregator is trained on the encoder's features as they are; from there on
both are trained together. Figures are of slides that neither has seen, over several seeds: of the split, of the
aggregator's first weights and of the order of slides.

Slides and tiles are made once for all seeds, and kept in ``--work``; so is each training that is done.

    python -m bench.training.end_to_end --work end-to-end --plot bench/training/end_to_end
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.figures import Figure, print_table, report, save_plot
from bench.training.slide_cohort import Cohort, cohort_of, in_numbers
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.testing.launch import REPOSITORY
from pyramidai_mpi.training.slides.aggregators import new_aggregator
from pyramidai_mpi.training.slides.bags import Case, Draw
from pyramidai_mpi.training.slides.cases import split_cases
from pyramidai_mpi.training.slides.fit import SlideFit, SlideTrainer, TrainedOnSlides
from pyramidai_mpi.training.slides.heads import BinaryHead
from pyramidai_mpi.training.slides.package_encoder import OnnxEncoder
from pyramidai_mpi.training.slides.tile_features import EncodedTiles, StoredFeatures
from pyramidai_mpi.training.splits import Split
from pyramidai_mpi.training.torch_setup import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.training.slides.aggregators import Aggregator
    from pyramidai_mpi.training.slides.tile_features import FeatureSource

HEAD = BinaryHead(("normal", "tumor"))
ALL_TILES = 10_000
_PER_STEP = 4


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes
    ----------
    slides, seeds
        How many.
    frozen_epochs, epochs
        Of the aggregator alone; of both together after its best one.
    curve, curve_seeds
        Tiles of a slide, K, that are compared, and with how many seeds.
    """

    slides: int = 120
    seeds: int = 5
    frozen_epochs: int = 40
    epochs: int = 6
    curve: tuple[int, ...] = (4, 16)
    curve_seeds: int = 2


QUICK = Effort(slides=20, seeds=2, epochs=2, frozen_epochs=4, curve=(4,), curve_seeds=1)


def pretrained() -> OnnxEncoder:
    """The shipped network for 0.5 µm/px. It looks at tiles of any size, so also at these smaller ones."""
    package = load_package(REPOSITORY / "models" / "small")
    return OnnxEncoder(replace(package, levels=package.levels[1:2]))


def features_of(encoder: OnnxEncoder, cohort: Cohort) -> list[np.ndarray]:
    """Features of all tiles of each slide."""
    with torch.no_grad():
        return [encoder(torch.from_numpy(np.array(tiles))).numpy() for tiles in cohort.tiles]


def trained(
    source: FeatureSource, aggregator: Aggregator, other: Cohort, seed: int, tiles: int, fit: SlideFit
) -> TrainedOnSlides:
    """Train an aggregator, and the encoder where the source has one."""
    cases = [Case(f"slide {n}", (n,), (float(positive),)) for n, positive in enumerate(other.positive)]
    split = split_cases(cases, SlideTask.BINARY, seed, shares=(0.5, 0.15))
    draw = Draw(seed, tiles, 16, [case.name for case in cases], [len(one) for one in other.tiles])
    trainer = SlideTrainer(UnitPool(), source, aggregator, HEAD, draw, split, fit)
    with tempfile.TemporaryDirectory() as folder:
        return trainer.train(Path(folder), {})


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t."""
    found = np.array(values)
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}[len(found)]
    half = t * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(found.mean() - half), float(found.mean() + half)


def study(other: Cohort, effort: Effort, kept: Path) -> list[dict[str, object]]:
    """A row of each training; those that are kept are not done again."""
    rows: list[dict[str, object]] = json.loads(kept.read_text()) if kept.exists() else []
    encoder = pretrained()
    frozen_rows = features_of(encoder, other)

    def keep(way: str, seed: int, tiles: int, done: TrainedOnSlides, start: float) -> None:
        test = done.judged[Split.TEST]
        found = {"seed": seed, "way": way, "tiles": tiles, "auc": test.figure, "loss": test.loss}
        found |= {"epoch": done.best_epoch, "cpu_s": round(time.process_time() - start, 1)}
        print(found, flush=True)
        rows.append({**found, "log": list(done.rows)})
        kept.write_text(json.dumps(rows))

    wanted = [(seed, ALL_TILES) for seed in range(effort.seeds)]
    wanted += [(seed, tiles) for seed in range(effort.curve_seeds) for tiles in effort.curve]
    for seed, tiles in wanted:
        if any((row["seed"], row["way"], row["tiles"]) == (seed, "end to end", tiles) for row in rows):
            continue
        aggregator = new_aggregator(AggregatorMethod.ABMIL, encoder.n_features, 1, seed)
        stored = StoredFeatures(lambda slide, chosen: frozen_rows[slide][chosen], encoder.n_features, seed, 0.1)
        start = time.process_time()
        alone = SlideFit(effort.frozen_epochs, _PER_STEP, 1e-3, seed=seed, save_every_s=1e9)
        done = trained(stored, aggregator, other, seed, ALL_TILES, alone)
        if tiles == ALL_TILES:
            keep("frozen", seed, tiles, done, start)
        start = time.process_time()
        source = EncodedTiles(copy.deepcopy(encoder), encoder.n_features, other, seed, 0.1)
        both = SlideFit(effort.epochs, _PER_STEP, 3e-4, 1e-4, seed=seed, save_every_s=1e9)
        keep("end to end", seed, tiles, trained(source, aggregator, other, seed, tiles, both), start)
    return rows


def plot(rows: list[dict[str, object]], prefix: Path) -> None:
    """Loss and area under the ROC curve over epochs, a curve for each K, mean over seeds (as Campanella's Fig. 4)."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for tiles in sorted({int(str(row["tiles"])) for row in rows if row["way"] == "end to end"}):
        logs = [row["log"] for row in rows if row["way"] == "end to end" and row["tiles"] == tiles]
        name = "all tiles" if tiles == ALL_TILES else f"K = {tiles}"
        for axis, column in zip(axes, ("loss", "validation_auc"), strict=True):
            curves = np.array([[row[column] for row in log] for log in logs])  # type: ignore[attr-defined]
            axis.plot(range(1, curves.shape[1] + 1), curves.mean(0), marker="o", ms=3, label=name)
    frozen = [float(str(row["auc"])) for row in rows if row["way"] == "frozen"]
    axes[1].axhline(np.mean(frozen), color="0.4", ls="--", label="frozen, held out")
    for axis, label in zip(axes, ("training loss", "AUC on validation slides"), strict=True):
        axis.set_xlabel("epoch")
        axis.set_ylabel(label)
        axis.legend()
    save_plot(figure, prefix, 120)


def main() -> None:
    """Make or find slides, train, say."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=Path("end-to-end"), help="keeps slides, tiles and what is done")
    parser.add_argument("--strength", type=float, default=0.5, help="how far stains are from the encoder's slides'")
    parser.add_argument("--plot", type=Path, help="prefix of the plot's files")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="a few slides and epochs: shows that it works, not more")
    options = parser.parse_args()
    effort = QUICK if options.quick else Effort()
    use_one_thread()
    other = cohort_of(options.work, effort.slides, (0.02, 0.08), options.strength)
    print(in_numbers(other), flush=True)
    rows = study(other, effort, options.work / f"trained-{options.strength:g}{'-quick' * options.quick}.json")
    figures: list[Figure] = []
    table = []
    for way, tiles in sorted({(str(row["way"]), int(str(row["tiles"]))) for row in rows}, reverse=True):
        chosen = [row for row in rows if (row["way"], row["tiles"]) == (way, tiles)]
        name = f"{way}, {'all tiles' if tiles == ALL_TILES else f'K = {tiles}'}"
        aucs = [float(str(row["auc"])) for row in chosen]
        mean, low, high = interval(aucs) if len(aucs) > 1 else (aucs[0], float("nan"), float("nan"))
        cpu = np.mean([float(str(row["cpu_s"])) for row in chosen])
        table.append([name, len(aucs), f"{mean:.3f}", f"{low:.3f} to {high:.3f}", f"{cpu:.0f}"])
        figures.append(Figure(f"AUC, {name}", mean, "", {"seeds": len(aucs), "low": low, "high": high}))
    print_table(["way", "seeds", "AUC on held-out slides", "95 % interval", "CPU s a training"], table)
    by_seed = {(row["seed"], row["way"]): float(str(row["auc"])) for row in rows if row["tiles"] == ALL_TILES}
    gains = [by_seed[seed, "end to end"] - by_seed[seed, "frozen"] for seed in range(effort.seeds)]
    mean, low, high = interval(gains)
    print(f"end to end over frozen, by seed: {mean:+.3f} ({low:+.3f} to {high:+.3f})")
    figures.append(Figure("gain of AUC", mean, "", {"seeds": len(gains), "low": low, "high": high}))
    if options.plot is not None:
        plot(rows, options.plot)
    report(figures, options.json)


if __name__ == "__main__":
    main()
