"""Training one tile network over ranks, on the exact step: a step is a batch, its units are micro-batches."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from pyramidai_mpi.base.errors import InputError, StorageError, UsageError
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError
from pyramidai_mpi.training.augment import augmented
from pyramidai_mpi.training.exact.checkpoint import Checkpoint, digest_of
from pyramidai_mpi.training.exact.log import TrainingLog
from pyramidai_mpi.training.exact.loop import NO_NUMBERS, ExactTraining, said_of
from pyramidai_mpi.training.exact.random_choices import generator_of, seed_torch
from pyramidai_mpi.training.exact.work_folder import state_path
from pyramidai_mpi.training.losses import class_weights, summed_loss
from pyramidai_mpi.training.schedules import rate_at

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.log import Row
    from pyramidai_mpi.training.exact.loop import TrainingProgress
    from pyramidai_mpi.training.fit_settings import FitSettings
    from pyramidai_mpi.training.networks.tile_network import TileNetwork
    from pyramidai_mpi.training.tile_store import LabelledTiles

SCORED = 32
"""Tiles that are scored at once: always as many, as kernels round differently by the batch."""
_LEAST = 1e-7
"""Probabilities nearer to 0 or 1 are taken for this, as float32 cannot tell them apart for the loss."""


class ShowsTraining(Protocol):
    """Something that shows how far a training is, on one rank."""

    def begin(self, what: str, epochs: int, steps: int, done: int = 0) -> None:
        """A training begins: what it is of, its epochs, the steps of each, and how many are done already."""
        ...

    def show(self, progress: TrainingProgress) -> None:
        """How far it is."""
        ...

    def phase(self, what: str) -> None:
        """Something else is done that takes a while."""
        ...


@dataclass(frozen=True)
class FitPlace:
    """Where a network's training keeps what it knows, and what it is called.

    Attributes
    ----------
    work
        Folder of states, logs and weights.
    name
        Of its files.
    level
        Number of the level: random choices of levels differ.
    material
        What else a training that goes on must have in common, by name.
    save_every_s
        Seconds between saved states.
    check
        See `Checkpoint`.
    """

    work: Path
    name: str
    level: int
    material: Mapping[str, str]
    save_every_s: float = 60.0
    check: Callable[[], None] = lambda: None

    @property
    def state(self) -> Path:
        """File of the state."""
        return state_path(self.work, self.name)


@dataclass(frozen=True)
class Fit:
    """How a training went.

    Attributes
    ----------
    rows
        The log, a row an epoch: epoch, loss, learning_rate, validation_loss, validation_accuracy.
    best_epoch
        The epoch of the best accuracy on the validation tiles, the last of equals, counted from 0.
    kept_epoch
        The epoch whose weights the network has now.
    digest
        SHA-256 of these weights, in hexadecimal digits.
    """

    rows: tuple[Row, ...]
    best_epoch: int
    kept_epoch: int
    digest: str


def fit(
    network: TileNetwork,
    train: LabelledTiles,
    validation: LabelledTiles,
    settings: FitSettings,
    pool: UnitPool,
    place: FitPlace,
    show: ShowsTraining | None = None,
) -> Fit:
    """Train a network in place, or go on, and leave it with the weights to keep, in evaluation mode. Collective.

    The weights do not depend on the ranks: see `training.exact`.

    Parameters
    ----------
    network
        The network, with the weights to start from; the same on all ranks.
    train, validation
        Labelled tiles to learn from, and to choose the best epoch by.
    settings
        How the network is trained.
    pool
        The ranks.
    place
        Where its state is; when there is one, training goes on from it.
    show
        Told on this rank how far the training is.

    Raises
    ------
    InputError
        When the state is of another training, or a loss or gradient is not finite.
    UsageError
        When the network has fewer stages than are to be frozen, or the state is of more epochs.
    PoolStoppedError
        When the ranks were told to stop; what there is is saved.
    """
    facts = {**settings.facts(), **place.material, "starting weights": digest_of(network.state_dict()).hex()[:12]}
    pool.on_all(lambda: network.freeze(settings.freeze))
    device = torch.device(settings.device)
    network.to(device)
    log = TrainingLog(place.work, f"{place.name}.log")
    training = ExactTraining(
        pool,
        {"network": network},
        new_optimizer(network, settings),
        Checkpoint(place.state, facts, place.check),
        log,
        save_every_s=place.save_every_s,
        show=None if show is None else show.show,
    )
    training.begin(settings.epochs)
    steps = n_steps(len(train), settings.batch_size)
    n_positive = int(train.positive.sum())
    weights = class_weights(settings, len(train) - n_positive, n_positive)
    if show is not None:
        show.begin(place.name, settings.epochs, steps, training.epoch * steps + training.step_number)
    while training.epoch < settings.epochs and not _is_out_of_patience(log.rows, settings):
        network.train()
        for step in range(training.step_number, steps):
            training.set_learning_rate(rate_at(settings, training.epoch, step, steps))
            units = units_of_step(len(train), settings, place.level, training.epoch, step)
            work = MicroBatches(network, train, units, settings, weights, (place.level, training.epoch, step))
            try:
                training.step(len(units), work.loss_of)
            except InputError as error:
                raise said_of(error, f"{place.name}, epoch {training.epoch + 1}, step {step + 1}") from error
        try:
            scores = score(network, validation, pool, settings.device)
        except PoolStoppedError:
            training.save()
            raise
        except InputError as error:
            raise said_of(error, f"{place.name}, after epoch {training.epoch + 1}") from error
        right = accuracy(scores, validation.positive)
        if right >= max((float(row["validation_accuracy"]) for row in log.rows), default=0.0):
            training.keep("best")
        training.end_epoch(
            {
                "learning_rate": rate_at(settings, training.epoch, steps - 1, steps),
                "validation_loss": log_loss(scores, validation.positive),
                "validation_accuracy": right,
            }
        )
    return _ended(training, network, settings, place)


def _ended(training: ExactTraining, network: TileNetwork, settings: FitSettings, place: FitPlace) -> Fit:
    """Keep what is to be kept; the other weights go into a file of the work folder."""
    rows = training.log.rows
    best, last = _best_epoch(rows), len(rows) - 1
    training.keep("last")
    kept, other = (settings.keep, next(name for name in ("best", "last") if name != settings.keep))

    def write_other() -> None:
        path = place.work / f"{place.name}.{other}.pt"
        try:
            torch.save(training.kept[other]["network"], path)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise StorageError(f"{path}: cannot be written: {' '.join(str(error).split())[:200]}") from error

    training.pool.on_rank0(write_other)
    training.take_back(kept)
    network.to("cpu")
    network.eval()
    digest = digest_of(network.state_dict()).hex()
    return Fit(tuple(rows), best, best if kept == "best" else last, digest)


class MicroBatches:
    """The micro-batches of one step."""

    def __init__(
        self,
        network: TileNetwork,
        tiles: LabelledTiles,
        units: Sequence[npt.NDArray[np.int64]],
        settings: FitSettings,
        weights: tuple[float, float],
        numbers: tuple[int, int, int],
    ) -> None:
        self._network, self._tiles, self._units = network, tiles, units
        self._settings, self._weights, self._numbers = settings, weights, numbers

    def loss_of(self, unit: int) -> tuple[torch.Tensor, float]:
        """See `ExactGradients.of_step`."""
        rows, settings = self._units[unit], self._settings
        rng = generator_of(settings.seed, "augmentation", *self._numbers, unit)
        tiles = torch.from_numpy(augmented(self._tiles.pixels[rows], rng, settings.augment)).to(settings.device)
        positive = torch.from_numpy(self._tiles.positive[rows]).to(settings.device)
        seed_torch(settings.seed, "dropout", *self._numbers, unit)
        with torch.autocast(tiles.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            logits = self._network.odds(tiles, positions_of(self._network, self._tiles, rows, settings.device))
        return summed_loss(logits.float()[:, 0], positive, settings, self._weights)


def n_steps(n_tiles: int, batch_size: int) -> int:
    """Steps of an epoch; the last one takes what is left, but for a single tile, of which batch norm makes nothing."""
    return max(-(-(n_tiles - 1) // batch_size), 1)


def units_of_step(
    n_tiles: int, settings: FitSettings, level: int, epoch: int, step: int
) -> list[npt.NDArray[np.int64]]:
    """Rows of each micro-batch of a step: as few as may be, as even as may be, the rows of each ascending."""
    order = generator_of(settings.seed, "order", level, epoch).permutation(n_tiles)
    chosen = order[step * settings.batch_size : (step + 1) * settings.batch_size]
    parts = np.array_split(chosen, -(-len(chosen) // settings.micro_batch))
    return [np.sort(part) for part in parts]


def new_optimizer(network: TileNetwork, settings: FitSettings) -> torch.optim.Optimizer:
    """The optimiser that the settings ask for, of what is not frozen."""
    parameters = [one for one in network.parameters() if one.requires_grad]
    rate, decay = settings.learning_rate, settings.decay
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            parameters, lr=rate, momentum=settings.momentum, nesterov=settings.nesterov, weight_decay=decay
        )
    kind = torch.optim.AdamW if settings.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=rate, weight_decay=decay)


def _best_epoch(rows: Sequence[Row]) -> int:
    return max(range(len(rows)), key=lambda epoch: (rows[epoch]["validation_accuracy"], epoch))


def _is_out_of_patience(rows: Sequence[Row], settings: FitSettings) -> bool:
    if settings.patience is None or len(rows) < max(settings.patience_from, 1):
        return False
    lowest = min(range(len(rows)), key=lambda epoch: rows[epoch]["validation_loss"])
    return len(rows) - 1 - lowest >= settings.patience


def usable_device(name: str, n_ranks: int) -> str:
    """The device to train on: `name`, or for ``auto`` a GPU where there is one and one rank, else the CPU.

    Raises
    ------
    UsageError
        When torch cannot use it, or there are ranks to train on a GPU.
    """
    chosen = ("cuda" if torch.cuda.is_available() and n_ranks == 1 else "cpu") if name == "auto" else name
    try:
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: torch cannot use it: {' '.join(str(error).split())[:200]}") from error
    if not chosen.startswith("cpu") and n_ranks > 1:
        raise UsageError(f"--device {name}: ranks train on CPUs, and there are {n_ranks}; start one, or --device cpu")
    if not chosen.startswith("cpu"):
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA first multiplies; torch demands it
    return chosen


def positions_of(
    network: TileNetwork, tiles: LabelledTiles, rows: npt.NDArray[np.int64] | slice, device: str
) -> torch.Tensor | None:
    """Positions of some tiles for a network that sees them, float32 (n, 2); None for any other."""
    if not network.sees_position:
        return None
    assert tiles.position is not None, "who trains such a network sees to that"
    return torch.from_numpy(tiles.position[rows]).to(device)


def score(network: TileNetwork, tiles: LabelledTiles, pool: UnitPool, device: str = "cpu") -> npt.NDArray[np.float32]:
    """Probability of the positive class for each tile, float32 (n,), on all ranks. Collective.

    Raises
    ------
    InputError
        One is NaN, which would count as negative.
    PoolStoppedError
        See `UnitPool.do`.
    """
    network.eval()
    starts = range(0, len(tiles), SCORED)

    def rows_of(unit: int) -> npt.NDArray[Any]:
        rows = slice(starts[unit], starts[unit] + SCORED)
        pixels = torch.from_numpy(np.ascontiguousarray(tiles.pixels[rows])).to(device)
        with torch.inference_mode():
            odds = network.odds(pixels, positions_of(network, tiles, rows, device))
        scores: npt.NDArray[Any] = torch.sigmoid(odds)[:, 0].cpu().numpy()
        if np.isnan(scores).any():
            raise InputError(f"scores of tiles are {NO_NUMBERS}")
        return scores

    counts = [min(SCORED, len(tiles) - start) for start in starts]
    return np.asarray(pool.rows(counts, rows_of, np.float32))


def accuracy(scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """Share of tiles on the right side of 0.5, both classes counting alike; NaN without tiles."""
    is_right = (scores >= 0.5) == positive
    shares = [float(is_right[positive == kind].mean()) for kind in (False, True) if (positive == kind).any()]
    return sum(shares) / len(shares) if shares else float("nan")


def log_loss(scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """Mean of -log of the probability that each tile's class was given; NaN without tiles."""
    if not len(positive):
        return float("nan")
    given = np.where(positive, scores, 1 - scores.astype(np.float64))
    return float(-np.log(np.clip(given, _LEAST, 1 - _LEAST)).mean())


def area_under_curve(scores: npt.NDArray[np.floating], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a positive tile scores above a negative one, ties counting half."""
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middles = np.cumsum(counts) - (counts - 1) / 2
    return float((middles[place][positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def material_mark(*tiles: LabelledTiles) -> str:
    """Short hash of what tiles a network is trained and chosen by."""
    return hashlib.sha256(" ".join(one.mark for one in tiles).encode()).hexdigest()[:12]
