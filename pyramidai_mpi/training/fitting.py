"""Training one network: tiles turned and flipped at random, Adam, binary cross-entropy; goes on where it stopped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from pyramidai_mpi.base.errors import InputError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.training.labelled_patches import LabelledTiles
    from pyramidai_mpi.training.networks.tile_network import TileNetwork


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch_size, learning_rate
        Passes over the tiles, tiles a step, Adam's step.
    seed
        Seed of the order of tiles and of how they are turned; each epoch draws from it and its own number, so that a
        resumed training draws the same.
    device
        The device by torch's name, such as cpu or cuda.
    precision
        ``float32``, or ``bfloat16`` for the convolutions of the steps: about twice as fast on processors that have it.
        Weights, losses and accuracies are float32 all the same.
    material
        Names whatever else a resumed training must have in common: the tiles, the weights it started from.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-4
    seed: int = 0
    device: str = "cpu"
    precision: str = "float32"
    material: str = ""


@dataclass(frozen=True)
class Fit:
    """How a training went.

    Attributes
    ----------
    losses, accuracies
        Mean loss on the training tiles and accuracy on the validation tiles, per epoch.
    best_epoch
        The epoch whose weights were kept, counted from 0: the one of the best accuracy, the last of equals.
    """

    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    best_epoch: int


def fit(
    network: TileNetwork,
    train: LabelledTiles,
    validation: LabelledTiles,
    settings: FitSettings,
    checkpoint: Path,
    progress: Callable[[int, int, int], None] | None = None,
) -> Fit:
    """Train a network in place and leave it with the weights of its best epoch, in evaluation mode.

    Parameters
    ----------
    network
        The network, with the weights to start from.
    train, validation
        Labelled tiles to learn from, and to choose the best epoch by.
    settings
        How the network is trained.
    checkpoint
        File that holds the state after each epoch; when it is there, training goes on from it.
    progress
        Called after every step with epoch, tiles seen of it, and its tiles in all.

    Raises
    ------
    InputError
        When the checkpoint is of another training.
    """
    device = torch.device(settings.device)
    network.to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    losses: list[float] = []
    accuracies: list[float] = []
    best: dict[str, torch.Tensor] = {}
    if checkpoint.exists():
        state = _load(checkpoint, settings)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        losses, accuracies, best = state["losses"], state["accuracies"], state["best"]
    loss_of = nn.BCEWithLogitsLoss()
    for epoch in range(len(losses), settings.epochs):
        rng = np.random.default_rng([settings.seed, epoch])
        torch.manual_seed(settings.seed * 1000 + epoch)
        network.train()
        order, total = rng.permutation(len(train)), 0.0
        # the last step takes what is left, but for a single tile, of which batch norm can make nothing
        for start in range(0, len(order) - 1, settings.batch_size):
            chosen = np.sort(order[start : start + settings.batch_size])
            tiles = torch.from_numpy(turned(train.pixels[chosen], rng)).to(device)
            truth = torch.from_numpy(train.positive[chosen].astype(np.float32)[:, np.newaxis]).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                logit = network.logit(network.features(tiles))
            loss = loss_of(logit.float(), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(chosen)
            if progress is not None:
                progress(epoch, start + len(chosen), len(order))
        losses.append(total / len(order))
        accuracies.append(accuracy(score(network, validation.pixels, settings), validation.positive))
        if accuracies[-1] >= max(accuracies):
            best = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        _save(checkpoint, settings, network, optimizer, losses, accuracies, best)
    network.load_state_dict(best)
    network.to("cpu")
    network.eval()
    best_epoch = max(range(len(accuracies)), key=lambda epoch: (accuracies[epoch], epoch))
    return Fit(tuple(losses), tuple(accuracies), best_epoch)


def usable_device(name: str, threads: int | None) -> str:
    """The device to train on: `name`, or for ``auto`` a GPU where there is one; with so many threads on the CPU.

    None takes a thread for every core that this process may use.

    Raises
    ------
    UsageError
        When torch cannot use it.
    """
    # said in so many words: for the ranks' sake the program starts with OMP_NUM_THREADS=1, which torch would obey
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UsageError(f"--device {name}: torch cannot use it: {' '.join(str(error).split())[:200]}") from error
    return chosen


def turned(tiles: RgbArray, rng: np.random.Generator) -> RgbArray:
    """Each tile of uint8 (n, T, T, 3) in one of its eight orientations, drawn at random."""
    out = np.empty_like(tiles)
    for position, way in enumerate(rng.integers(0, 8, len(tiles)).tolist()):
        tile = np.rot90(tiles[position], way % 4)
        out[position] = tile[:, ::-1] if way >= 4 else tile
    return out


def score(network: TileNetwork, pixels: RgbArray, settings: FitSettings) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Probability of tumour for each tile, float32 (n,)."""
    network.eval()
    found = np.empty(len(pixels), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pixels), settings.batch_size):
            tiles = torch.from_numpy(pixels[start : start + settings.batch_size].copy())
            found[start : start + len(tiles)] = network(tiles.to(settings.device))[0][:, 1].cpu().numpy()
    return found


def accuracy(scores: np.ndarray[Any, Any], positive: np.ndarray[Any, Any]) -> float:
    """Share of tiles on the right side of 0.5; NaN without tiles."""
    return float(((scores >= 0.5) == positive).mean()) if len(positive) else float("nan")


def _save(
    path: Path,
    settings: FitSettings,
    network: TileNetwork,
    optimizer: torch.optim.Optimizer,
    losses: list[float],
    accuracies: list[float],
    best: dict[str, torch.Tensor],
) -> None:
    partial = path.with_name(f"partial-{path.name}")
    state = {
        "settings": _facts(settings),
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "losses": losses,
        "accuracies": accuracies,
        "best": best,
    }
    try:
        torch.save(state, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        raise StorageError(f"{path}: cannot be written: {' '.join(str(error).split())[:200]}") from error


def _load(path: Path, settings: FitSettings) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location=settings.device, weights_only=True)
        matches = state["settings"] == _facts(settings)
    except Exception as error:  # torch.load raises whatever the unpickler meets
        raise InputError(f"{path}: not a state that training can go on from; delete it to start anew") from error
    if not matches:
        raise InputError(
            f"{path}: is of a training with other settings, slides or weights; delete its folder to start anew"
        )
    loaded: dict[str, Any] = state
    return loaded


def _facts(settings: FitSettings) -> dict[str, float | str]:
    """What a resumed training must have in common; more epochs are welcome, another device too."""
    return {
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
        "seed": settings.seed,
        "precision": settings.precision,
        "material": settings.material,
    }
