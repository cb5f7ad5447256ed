"""A training on slides as somebody asks for it, from files to what is learnt."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.odd_levels import INTERPOLATED
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask
from pyramidai_mpi.models.package import ModelLevel, ModelPackage
from pyramidai_mpi.models.read import is_package, read_package
from pyramidai_mpi.models.shipped import shipped_models
from pyramidai_mpi.models.write import BASE_MPP, SCALE_FACTOR, TILE, onnx_name
from pyramidai_mpi.patches.formats.foreign_features import FeatureFile, feature_files
from pyramidai_mpi.run.selection import SlideEntry, select_slides
from pyramidai_mpi.training.augment import NO_CHANGE, AugmentSettings
from pyramidai_mpi.training.networks.group_norm import LEAST_SIDE, new_encoder
from pyramidai_mpi.training.slides.aggregators import new_aggregator
from pyramidai_mpi.training.slides.bags import Case, Draw
from pyramidai_mpi.training.slides.cases import read_cases, split_cases
from pyramidai_mpi.training.slides.fit import SlideFit, SlideTrainer
from pyramidai_mpi.training.slides.heads import BinaryHead, ClassesHead, ShareHead, SurvivalHead
from pyramidai_mpi.training.slides.package_encoder import OnnxEncoder
from pyramidai_mpi.training.slides.tile_features import EncodedTiles, StoredFeatures
from pyramidai_mpi.training.slides.tissue_tiles import (
    HASH_ROWS,
    TissueTiles,
    find_tissue,
    hash_of_rows,
    rows_of_hash,
    shared,
)
from pyramidai_mpi.training.splits import Split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.networks.group_norm import ResNet18Encoder, SmallEncoder
    from pyramidai_mpi.training.slides.aggregators import Aggregator
    from pyramidai_mpi.training.slides.heads import TaskHead
    from pyramidai_mpi.training.slides.tile_features import FeatureSource

    Encoder = SmallEncoder | ResNet18Encoder | OnnxEncoder

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SlidePlan:
    """What is learnt from what.

    Attributes
    ----------
    slides, features
        Slides, see `select_slides`; or files of features, or folders of them, instead.
    labels, splits
        Tables, see `read_cases`.
    task, positive
        What is predicted; the positive class.
    tiles, chunk
        Tiles of each slide and epoch; tiles that are computed at a time.
    encoder
        ``small-gn``, ``resnet18-gn``, the folder of a model package or the name of a shipped one; of features None or
        the package that made them.
    weights
        What an encoder by name starts from.
    frozen
        Whether the encoder stays as it is.
    aggregator, fit
        How tiles become a slide; how both learn.
    class_weights
        ``none``, ``balanced``, or ``NAME=WEIGHT,NAME=WEIGHT``.
    dropout
        Share of a tile's features that are left out while learning.
    changes
        How tiles are changed while learning.
    base_mpp, tile_size
        µm per pixel and side of tiles; None for the package's, else 0.25 and 224.
    mpp
        µm per level-0 pixel of slides that do not say.
    """

    slides: tuple[Path, ...]
    features: tuple[Path, ...]
    labels: Path
    task: SlideTask
    tiles: int
    encoder: str | None
    aggregator: AggregatorMethod
    fit: SlideFit
    splits: Path | None = None
    positive: str | None = None
    chunk: int = 8
    weights: Path | None = None
    frozen: bool = False
    class_weights: str = "none"
    dropout: float = 0.0
    changes: AugmentSettings = NO_CHANGE
    base_mpp: float | None = None
    tile_size: int | None = None
    mpp: float | None = None


@dataclass(frozen=True)
class PreparedTraining:
    """A training that is ready.

    Attributes
    ----------
    trainer
        It.
    encoder, aggregator
        What it trains; the encoder is None where nobody knows what made the features.
    n_features, head
        Numbers of a tile's features, and what is learnt.
    model
        Size and spacing of tiles, and how their stain is normalised; None likewise.
    split, facts
        The cases, and what tells this training from others.
    left_out
        Slides without tissue.
    """

    trainer: SlideTrainer
    encoder: Encoder | None
    aggregator: Aggregator
    n_features: int
    head: TaskHead
    model: ModelPackage | None
    split: Mapping[Split, Sequence[Case]]
    facts: Mapping[str, object]
    left_out: tuple[str, ...]


def prepare(pool: UnitPool, plan: SlidePlan, folder: Path) -> PreparedTraining:
    """Read labels, find tissue, make networks. Collective.

    Parameters
    ----------
    pool
        The ranks.
    plan
        What is asked for.
    folder
        Of the package to be, which is named after it.

    Raises
    ------
    InputError
        A slide, table or package cannot be used.
    UsageError
        Options do not fit each other.
    PoolStoppedError
        See `UnitPool.do`.
    """

    def alike() -> tuple[ModelPackage | None, Encoder | None, list[SlideEntry]]:
        package = package_of(plan)
        model = None if plan.features and package is None else _bare_model(plan, folder, package)
        encoder = _encoder_of(plan, package)
        if plan.features:
            chosen = [SlideEntry(file) for file in feature_files(plan.features)]
        else:
            chosen = list(select_slides(plan.slides, None).entries)
        read_cases(plan.labels, plan.task, [one.name or one.slide.name for one in chosen], plan.positive, plan.splits)
        return model, encoder, chosen

    model, encoder, chosen = pool.on_all(alike)
    files, names = [one.slide for one in chosen], [one.name or one.slide.name for one in chosen]
    pool.agree_on("\n".join(map(str, files)).encode(), "the list of slides")
    if plan.features:
        n_tiles, width, hashes = _feature_sizes(pool, files)
    else:
        assert model is not None
        inputs = [SlideInput(slide, plan.mpp, odd_levels=INTERPOLATED) for slide in files]
        found, hashes = find_tissue(pool, inputs, model)
        n_tiles = [len(rows) for rows in found]

    def ready() -> PreparedTraining:
        labelled = read_cases(plan.labels, plan.task, names, plan.positive, plan.splits)
        cases = _with_tiles(labelled.cases, n_tiles)
        split = split_cases(cases, plan.task, plan.fit.seed)
        head = _head_of(plan, labelled.classes, split[Split.TRAIN])
        source: FeatureSource
        if plan.features:
            rows = [FeatureFile(file, tried=True) for file in files]
            source = StoredFeatures(lambda slide, tiles: rows[slide].rows(tiles), width, plan.fit.seed, plan.dropout)
            if encoder is not None and encoder.n_features != width:
                raise InputError(
                    f"{files[0]}: has {width} features a tile, and {plan.encoder} gives {encoder.n_features}"
                )
        else:
            assert encoder is not None
            assert model is not None
            encoder.requires_grad_(requires_grad=not plan.frozen)
            pixels = TissueTiles(inputs, model, found)
            source = EncodedTiles(
                encoder,
                encoder.n_features,
                pixels,
                plan.fit.seed,
                plan.dropout,
                plan.changes,
            )
        aggregator = new_aggregator(plan.aggregator, source.n_features, head.n_logits, plan.fit.seed)
        # of what is read from a file a part is no quicker than the whole
        chunk = plan.tiles if plan.features else plan.chunk
        draw = Draw(plan.fit.seed, plan.tiles, chunk, names, n_tiles)
        trainer = SlideTrainer(pool, source, aggregator, head, draw, split, plan.fit)
        left_out = tuple(name for name, count in zip(names, n_tiles, strict=True) if not count)
        facts = _facts(plan, model, [*names, *n_tiles, *hashes], split, labelled.classes)
        return PreparedTraining(trainer, encoder, aggregator, source.n_features, head, model, split, facts, left_out)

    prepared = pool.on_all(ready)
    if pool.rank == 0:
        for name in prepared.left_out:
            log.warning("%s: no tissue found; left out", name)
    return prepared


def package_of(plan: SlidePlan) -> ModelPackage | None:
    """The package whose network is the encoder; None where it has a name of its own, or there is none.

    Raises
    ------
    InputError
        The package cannot be read.
    UsageError
        There is none, or another option does not fit it.
    """
    if plan.encoder is None or plan.encoder in LEAST_SIDE:
        if plan.features and plan.encoder is not None:
            raise UsageError(
                f"--encoder {plan.encoder}: nobody learns it from --features; name the package that made them, or none"
            )
        return None
    folder = shipped_models().get(plan.encoder, Path(plan.encoder))
    if is_package(Path(plan.encoder)):  # a folder of that name goes first, as with --model
        folder = Path(plan.encoder)
    if not is_package(folder):
        raise UsageError(
            f"--encoder {plan.encoder}: expected {', '.join(LEAST_SIDE)}, the folder of a model package, or a shipped "
            f"one ({', '.join(shipped_models())})"
        )
    if plan.weights is not None:
        raise UsageError("--weights are for encoders by name; a package has its own")
    return read_package(folder)


def _encoder_of(plan: SlidePlan, package: ModelPackage | None) -> Encoder | None:
    if package is not None:
        return OnnxEncoder(package)
    if plan.encoder is None:
        return None
    side = plan.tile_size or TILE
    if side < LEAST_SIDE[plan.encoder]:
        raise UsageError(
            f"--tile-size {side}: --encoder {plan.encoder} looks at {LEAST_SIDE[plan.encoder]} pixels a side or more"
        )
    return new_encoder(plan.encoder, plan.fit.seed, plan.weights)


def _bare_model(plan: SlidePlan, folder: Path, package: ModelPackage | None) -> ModelPackage:
    """Size and spacing of tiles, and their stain, of a package that is yet to be made."""
    if package is not None:
        if plan.tile_size not in {None, package.tile_size}:
            raise UsageError(f"--tile-size {plan.tile_size}: {plan.encoder} looks at {package.tile_size} px")
        spacing = plan.base_mpp or package.base_mpp
        return replace(package, folder=folder, name=folder.name, levels=package.levels[:1], base_mpp=spacing, band=None)
    return ModelPackage(
        folder=folder,
        name=folder.name,
        classes=("rest", "slide"),
        positive_class=1,
        tile_size=plan.tile_size or TILE,
        scale_factor=SCALE_FACTOR,
        base_mpp=plan.base_mpp or BASE_MPP,
        stain="none",
        levels=(ModelLevel(0, folder / onnx_name(0), 0.5, ""),),
        yaml_text="",
    )


def _feature_sizes(pool: UnitPool, files: Sequence[Path]) -> tuple[list[int], int, list[str]]:
    """Tiles of each file, the width of all, and each file's quick hash. Collective."""
    own: dict[int, npt.NDArray[np.int64]] = {}

    def look(number: int) -> None:
        file = FeatureFile(files[number])
        sizes = np.array([[file.n_tiles, file.n_features]], np.int64)
        own[number] = np.concatenate([rows_of_hash(file.quickhash()), sizes])

    pool.do(len(files), look)
    found = shared(pool, own)
    sizes = [found[number][HASH_ROWS].tolist() for number in range(len(files))]
    for file, (_, width) in zip(files, sizes, strict=True):
        if width != sizes[0][1]:
            error = InputError(f"{file}: has {width} features a tile, and {files[0]} {sizes[0][1]}; give those of one")
            error.agreed = True  # all ranks have the same sizes
            raise error
    return [count for count, _ in sizes], sizes[0][1], [hash_of_rows(found[number]) for number in range(len(files))]


def _with_tiles(cases: Sequence[Case], n_tiles: Sequence[int]) -> list[Case]:
    """Cases with those of their slides that have tissue."""
    kept = [replace(case, slides=tuple(slide for slide in case.slides if n_tiles[slide])) for case in cases]
    return [case for case in kept if case.slides]


def _head_of(plan: SlidePlan, classes: Sequence[str], learning: Sequence[Case]) -> TaskHead:
    if plan.task in {SlideTask.SHARE, SlideTask.SURVIVAL}:
        if plan.class_weights != "none":
            raise UsageError(f"--class-weights: task {plan.task} has no classes; leave them out")
        return ShareHead() if plan.task is SlideTask.SHARE else SurvivalHead()
    weights = _class_weights(plan.class_weights, classes, [int(case.target[0]) for case in learning])
    if plan.task is SlideTask.BINARY:
        return BinaryHead(classes, weights)
    return ClassesHead(classes, plan.positive or classes[-1], weights)


def _class_weights(said: str, classes: Sequence[str], learning: Sequence[int]) -> list[float]:
    if said == "none":
        return [1.0] * len(classes)
    if said == "balanced":
        counts = np.bincount(learning, minlength=len(classes))
        if not counts.all():
            raise InputError(
                f"no slide of class {classes[int(np.argmin(counts))]} is for train; give more slides, or say with "
                "column split which are"
            )
        return [len(learning) / (len(classes) * int(count)) for count in counts]
    weights = {}
    for part in said.split(","):
        name, _, number = part.rpartition("=")
        try:
            weights[name.strip()] = float(number)
        except ValueError:
            weights[name.strip()] = float("nan")
    if set(weights) != set(classes) or not all(0 < weight < float("inf") for weight in weights.values()):
        example = ",".join(f"{name}=1" for name in classes)
        raise UsageError(
            f"--class-weights {said}: expected none, balanced, or a weight above 0 of each, as in {example}"
        )
    return [weights[name] for name in classes]


def _facts(
    plan: SlidePlan,
    model: ModelPackage | None,
    slides: Sequence[object],
    split: Mapping[Split, Sequence[Case]],
    classes: Sequence[str],
) -> dict[str, object]:
    """What tells a training from others, by the names of the options."""
    cases = [[(case.name, case.slides, case.target) for case in split[kind]] for kind in Split]
    encoder = plan.encoder if model is None or not model.levels[0].sha256 else model.levels[0].sha256
    return {
        "set of slides, or content of one": _short(slides),
        "--labels": _short([*cases, *classes]),
        "--task": str(plan.task),
        "--tiles": plan.tiles,
        "--chunk": plan.chunk,
        "--encoder": encoder,
        "--weights": None if plan.weights is None else file_sha256(plan.weights)[:16],
        "--frozen-encoder": plan.frozen,
        "--aggregator": str(plan.aggregator),
        "--class-weights": plan.class_weights,
        "--dropout": plan.dropout,
        "--augment": repr(plan.changes),
        "--base-mpp": None if model is None else model.base_mpp,
        "--tile-size": None if model is None else model.tile_size,
        "--accumulate": plan.fit.per_step,
        "--learning-rate": plan.fit.learning_rate,
        "--encoder-learning-rate": plan.fit.encoder_rate,
        "--frozen-epochs": plan.fit.frozen_epochs,
        "--weight-decay": plan.fit.weight_decay,
        "--seed": plan.fit.seed,
    }


def _short(facts: Sequence[object]) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
