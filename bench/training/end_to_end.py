"""Does it help to train encoder and aggregator together? Against the same encoder left as it is.

An encoder is trained on tiles of slides of one kind, whose outlines are known. Then there are slides of another kind
(each stained in a way of its own), of which only the label is known, and which few of their tiles show. On these an
aggregator is trained on the encoder's features as they are, and another one together with the encoder. Figures are of
slides that neither has seen, over several seeds: of the encoder's training, of the split and of the order of slides.

Slides and tiles are made once for all seeds, and kept in ``--work``.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.figures import Figure, print_table, report, save_plot
from bench.training.slide_cohort import Cohort, cohort_of, in_numbers
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.labelled_patches import Split
from pyramidai_mpi.training.networks.group_norm import SmallEncoder, new_encoder
from pyramidai_mpi.training.slides.aggregators import new_aggregator
from pyramidai_mpi.training.slides.bags import Case, Draw
from pyramidai_mpi.training.slides.cases import split_cases
from pyramidai_mpi.training.slides.fit import SlideFit, SlideTrainer, TrainedOnSlides
from pyramidai_mpi.training.slides.heads import BinaryHead
from pyramidai_mpi.training.slides.metrics import auc
from pyramidai_mpi.training.slides.tile_features import EncodedTiles, StoredFeatures
from pyramidai_mpi.training.torch_setup import use_one_thread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.training.slides.tile_features import FeatureSource

HEAD = BinaryHead(("normal", "tumor"))
ALL_TILES = 10_000
_PER_STEP = 4


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes
    ----------
    own, other
        Slides of the encoder's kind, and of the other.
    seeds
        How many.
    tile_epochs, epochs, frozen_epochs
        Of the encoder on tiles; of both together; of the aggregator alone.
    curve, curve_seeds
        Tiles of a slide, K, that are compared, and with how many seeds.
    """

    own: int = 16
    other: int = 160
    seeds: int = 5
    tile_epochs: int = 6
    epochs: int = 8
    frozen_epochs: int = 40
    curve: tuple[int, ...] = (4, 16)
    curve_seeds: int = 2


QUICK = Effort(own=6, other=20, seeds=2, tile_epochs=2, epochs=2, frozen_epochs=4, curve=(4,), curve_seeds=1)


def encoder_on_tiles(own: Cohort, seed: int, epochs: int) -> SmallEncoder:
    """An encoder that has learnt to tell tumour tiles of its own slides, as many of them as normal ones."""
    encoder = new_encoder("small-gn", seed)
    assert isinstance(encoder, SmallEncoder)
    layer = torch.nn.Linear(encoder.n_features, 1)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *layer.parameters()], 1e-3)
    pixels, tumor = np.concatenate([*own.tiles]), np.concatenate([*own.tumor])
    for epoch in range(epochs):
        generator = generator_of(seed, "tiles", epoch)
        positive = np.flatnonzero(tumor)
        negative = generator.permutation(np.flatnonzero(~tumor))[: 2 * len(positive)]
        order = generator.permutation(np.concatenate([positive, negative]))
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            logits = layer(encoder(torch.from_numpy(pixels[rows])))[:, 0]
            target = torch.from_numpy(tumor[rows].astype(np.float32))
            optimizer.zero_grad()
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, target)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return encoder


def features_of(encoder: SmallEncoder, cohort: Cohort) -> list[np.ndarray]:
    """Features of all tiles of each slide."""
    with torch.no_grad():
        return [encoder(torch.from_numpy(np.asarray(tiles))).numpy() for tiles in cohort.tiles]


def split_of(other: Cohort, seed: int) -> dict[Split, list[Case]]:
    """Slides that learn, choose and test."""
    cases = [Case(f"slide {n}", (n,), (float(positive),)) for n, positive in enumerate(other.positive)]
    return split_cases(cases, SlideTask.BINARY, seed, shares=(0.5, 0.15))


def trained(
    source: FeatureSource, other: Cohort, split: dict[Split, list[Case]], seed: int, tiles: int, fit: SlideFit
) -> TrainedOnSlides:
    """Train an aggregator, and the encoder where the source has one."""
    aggregator = new_aggregator(AggregatorMethod.ABMIL, source.n_features, 1, seed)
    counts = [len(one) for one in other.tiles]
    draw = Draw(seed, tiles, 16, [case.name for kind in Split for case in split[kind]], counts)
    trainer = SlideTrainer(UnitPool(), source, aggregator, HEAD, draw, split, fit)
    with tempfile.TemporaryDirectory() as folder:
        return trainer.train(Path(folder), {})


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean and 95 % interval of Student's t."""
    found = np.array(values)
    t = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}[len(found)]
    half = t * found.std(ddof=1) / np.sqrt(len(found))
    return float(found.mean()), float(found.mean() - half), float(found.mean() + half)


def study(own: Cohort, other: Cohort, effort: Effort, kept: Path) -> list[dict[str, object]]:
    """A row of each training; those that are kept are not done again."""
    rows: list[dict[str, object]] = json.loads(kept.read_text()) if kept.exists() else []
    for seed in range(effort.seeds):
        encoder: SmallEncoder | None = None
        for way, tiles in [
            ("frozen", ALL_TILES),
            ("end to end", ALL_TILES),
            *(("end to end", k) for k in effort.curve if seed < effort.curve_seeds),
        ]:
            if any((row["seed"], row["way"], row["tiles"]) == (seed, way, tiles) for row in rows):
                continue
            if encoder is None:
                encoder = encoder_on_tiles(own, seed, effort.tile_epochs)
            rows.append(_one(encoder, other, effort, seed, way, tiles))
            kept.write_text(json.dumps(rows))
            print({name: value for name, value in rows[-1].items() if name != "log"}, flush=True)
    return rows


def _one(encoder: SmallEncoder, other: Cohort, effort: Effort, seed: int, way: str, tiles: int) -> dict[str, object]:
    start = time.process_time()
    split = split_of(other, seed)
    source: FeatureSource
    if way == "frozen":
        rows = features_of(encoder, other)
        source = StoredFeatures(lambda slide, chosen: rows[slide][chosen], encoder.n_features, seed, 0.1)
        fit = SlideFit(effort.frozen_epochs, _PER_STEP, 1e-3, 1e-3, seed=seed, save_every_s=1e9)
    else:
        own_encoder = copy.deepcopy(encoder)
        source = EncodedTiles(own_encoder, encoder.n_features, other, seed, 0.1)
        fit = SlideFit(effort.epochs, _PER_STEP, 1e-3, 3e-4, seed=seed, save_every_s=1e9)
    done = trained(source, other, split, seed, tiles, fit)
    test = done.judged[Split.TEST]
    return {
        "seed": seed,
        "way": way,
        "tiles": tiles,
        "auc": test.figure,
        "loss": test.loss,
        "epoch": done.best_epoch,
        "cpu_s": round(time.process_time() - start, 1),
        "log": list(done.rows),
    }


def tiles_told_apart(own: Cohort, other: Cohort, effort: Effort) -> tuple[float, float]:
    """What the encoder with a linear layer on its own slides' tiles says of tiles of either kind: areas under ROC."""
    encoder = encoder_on_tiles(own, 0, effort.tile_epochs)
    found = []
    rows, tumor = np.concatenate(features_of(encoder, own)), np.concatenate([*own.tumor])
    design = np.c_[rows, np.ones(len(rows))].astype(np.float64)
    weights = np.linalg.solve(design.T @ design + np.eye(design.shape[1]), design.T @ (2.0 * tumor - 1))
    for cohort in (own, other):
        scores = np.concatenate(features_of(encoder, cohort)) @ weights[:-1]
        found.append(auc(scores, np.concatenate([*cohort.tumor])))
    return found[0], found[1]


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
    own = cohort_of(options.work, "own", effort.own, (0.02, 0.3), 0.0)
    other = cohort_of(options.work, "other", effort.other, (0.02, 0.08), options.strength)
    print(f"own: {in_numbers(own)}\nother: {in_numbers(other)}", flush=True)
    apart = tiles_told_apart(own, other, effort)
    print(f"tiles told apart by the encoder: AUC {apart[0]:.3f} on its own slides, {apart[1]:.3f} on the others")
    rows = study(own, other, effort, options.work / f"done-{options.strength:g}{'-quick' * options.quick}.json")
    figures = [
        Figure("AUC of tiles, own slides", apart[0], ""),
        Figure("AUC of tiles, other slides", apart[1], ""),
    ]
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
