"""One network a level on labelled tiles, as the paper trains them, one level after the other."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.training.architectures import new_network
from pyramidai_mpi.training.fitting import FitPlace, accuracy, area_under_curve, fit, material_mark, score
from pyramidai_mpi.training.networks.export import to_onnx
from pyramidai_mpi.training.networks.with_position import with_position
from pyramidai_mpi.training.splits import Split
from pyramidai_mpi.training.tile_store import Draws

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.log import Row
    from pyramidai_mpi.training.fit_settings import FitSettings
    from pyramidai_mpi.training.fitting import ShowsTraining
    from pyramidai_mpi.training.networks.tile_network import TileNetwork
    from pyramidai_mpi.training.splits import SlidesOfSplits
    from pyramidai_mpi.training.tile_store import LabelledTiles, TileStore


@dataclass(frozen=True)
class LevelResult:
    """One trained level.

    Attributes
    ----------
    level
        Number of the level, 0 is the finest.
    graph
        The trained network, serialised as ONNX, on rank 0; empty on the others.
    digest
        SHA-256 of its weights, in hexadecimal digits: equal for any number of ranks.
    tiles, accuracies, areas
        Number of tiles in each split, the share of them on the right side of 0.5 (both classes counting alike), and the
        area under their ROC curve.
    kept_epoch, rows
        The epoch whose weights were kept, from 1, and the log.
    """

    level: int
    graph: bytes
    digest: str
    tiles: Mapping[Split, int]
    accuracies: Mapping[Split, float]
    areas: Mapping[Split, float]
    kept_epoch: int
    rows: tuple[Row, ...]


class Material(Draws, Protocol):
    """What is learnt: tiles of annotated slides (`labelled_patches.TilePlan`), or of files of patches."""

    @property
    def model(self) -> ModelPackage:
        """Tile size, spacing, classes and levels of the package to be."""
        ...

    @property
    def kind(self) -> str:
        """What tiles are drawn of, in words."""
        ...

    @property
    def in_words(self) -> str:
        """What is positive, for the package's card."""
        ...


@dataclass(frozen=True)
class TrainingPlan:
    """What networks are trained, beside how.

    Attributes
    ----------
    material
        What they learn.
    architecture
        A name of `architectures.ARCHITECTURES`.
    start
        Weights to start from; None for random ones.
    from_finer
        Whether each level above 0 starts from what the level below it has learnt.
    work
        Folder of states and logs.
    save_every_s
        Seconds between saved states.
    sees_position
        Whether networks are told where on its slide a tile lies.
    check
        See `Checkpoint`.
    """

    material: Material
    architecture: str
    start: Path | None
    from_finer: bool
    work: Path
    save_every_s: float = 60.0
    sees_position: bool = False
    check: Callable[[], None] = lambda: None

    def place_names(self) -> list[str]:
        """Names of the levels' trainings."""
        return [f"level{level}" for level in range(self.material.model.n_levels)]


def train_levels(
    pool: UnitPool,
    plan: TrainingPlan,
    settings: FitSettings,
    split: SlidesOfSplits,
    store: TileStore,
    show: ShowsTraining | None = None,
) -> list[LevelResult]:
    """Train a network for every level. Collective.

    Parameters
    ----------
    pool
        The ranks.
    plan, settings
        What is trained, and how.
    split
        Slides of each split.
    store
        Their tiles, drawn.
    show
        Told how far it is, on this rank.

    Raises
    ------
    InputError, UsageError, PoolStoppedError
        See `fit`; and when a split has no tiles of a class, or weights cannot be used.
    """
    results: list[LevelResult] = []
    weights = "random" if plan.start is None else pool.on_all(partial(file_sha256, plan.start))[:12]
    finer: TileNetwork | None = None
    for level, name in enumerate(plan.place_names()):
        tiles = pool.on_all(partial(_tiles_of, plan.material, store, split, level, settings))
        network = pool.on_all(partial(_network, plan, tiles, settings.seed + level))
        if finer is not None:
            network.load_state_dict(finer.state_dict())
        material = {
            "--arch": plan.architecture,
            "--position": str(plan.sees_position),
            "--weights": weights if finer is None else "level below",
            "tiles": material_mark(tiles[Split.TRAIN], tiles[Split.VALIDATION]),
        }
        place = FitPlace(plan.work, name, level, material, plan.save_every_s, plan.check)
        done = fit(network, tiles[Split.TRAIN], tiles[Split.VALIDATION], settings, pool, place, show)
        if show is not None:
            show.phase(f"{name}: scores of all tiles, and its graph")
        scores = {kind: score(network, found, pool) for kind, found in tiles.items()}
        results.append(
            LevelResult(
                level=level,
                graph=pool.on_rank0(partial(to_onnx, network, plan.material.model.tile_size)) or b"",
                digest=done.digest,
                tiles={kind: len(found) for kind, found in tiles.items()},
                accuracies={kind: accuracy(scores[kind], found.positive) for kind, found in tiles.items()},
                areas={kind: area_under_curve(scores[kind], found.positive) for kind, found in tiles.items()},
                kept_epoch=done.kept_epoch + 1,
                rows=done.rows,
            )
        )
        if plan.from_finer:
            finer = network
    return results


def _tiles_of(
    material: Material, store: TileStore, split: SlidesOfSplits, level: int, settings: FitSettings
) -> dict[Split, LabelledTiles]:
    tiles = {}
    for kind, slides in split.items():
        try:
            tiles[kind] = store.of(slides, level, settings.seed, balanced=settings.class_weights is None)
        except InputError as error:
            negative, positive = material.model.classes
            raise InputError(
                f"level {level}: {error} of the {len(slides)} {material.kind} for {kind}; both {negative} and "
                f"{positive} are needed: give more annotated {material.kind}, or another --seed or --split"
            ) from error
    return tiles


def _network(plan: TrainingPlan, tiles: Mapping[Split, LabelledTiles], seed: int) -> TileNetwork:
    """One to be trained."""
    network = new_network(plan.architecture, seed, plan.start)
    if not plan.sees_position:
        return network
    if any(one.position is None or not np.isfinite(one.position).all() for one in tiles.values()):
        raise UsageError(f"--position: some of the {plan.material.kind} do not say where on their slides tiles lay")
    return with_position(network, seed)


def accuracy_table(results: Sequence[LevelResult]) -> list[str]:
    """Accuracy per level and split, as lines of Markdown."""
    kinds = list(Split)
    lines = [
        "| level | " + " | ".join(f"{kind} accuracy (tiles)" for kind in kinds) + " | test AUC | kept epoch |",
        "| --- " * (len(kinds) + 3) + "|",
    ]
    for result in results:
        cells = [f"{result.accuracies[kind]:.3f} ({result.tiles[kind]})" for kind in kinds]
        cells += [f"{result.areas[Split.TEST]:.3f}", f"{result.kept_epoch} of {len(result.rows)}"]
        lines.append(f"| {result.level} | " + " | ".join(cells) + " |")
    return lines
