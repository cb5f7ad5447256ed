"""A small training for tests of what all kinds of training stand on: convolutions, batch norm, dropout, no slides.

As a program: ``exact_example.py FOLDER [EPOCHS] [slow] [seed=N] [every-step]
[kill=RANK:STEP]`` trains on all ranks and prints
the digest of what came of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.exact.checkpoint import Checkpoint
from pyramidai_mpi.training.exact.log import TrainingLog
from pyramidai_mpi.training.exact.loop import ExactTraining
from pyramidai_mpi.training.exact.random_choices import generator_of, seed_torch
from pyramidai_mpi.training.torch_setup import use_one_thread

N_TILES, UNIT, STEP = 44, 3, 10
"""Tiles, tiles of a micro-batch and of a step: neither divides the next."""
TILES = torch.from_numpy(np.random.default_rng(8).random((N_TILES, 3, 16, 16), np.float32))
LABELS = (TILES.mean((1, 2, 3)) > TILES.mean()).float()


def new_network(*, dropout: float = 0.25) -> nn.Sequential:
    """One with batch norm and dropout; the same each time."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, bias=False), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Conv2d(6, 8, 3, 2), nn.BatchNorm2d(8, momentum=0.3), nn.ReLU(), nn.Flatten(),
        nn.Dropout(dropout), nn.Linear(72, 1),
    )  # fmt: skip


def units_of_step(seed: int, epoch: int, step: int) -> list[np.ndarray]:
    """Rows of each micro-batch of a step."""
    order = generator_of(seed, "order", epoch).permutation(N_TILES)[step * STEP : (step + 1) * STEP]
    return [order[start : start + UNIT] for start in range(0, len(order), UNIT)]


def summed_loss(network: nn.Module, rows: np.ndarray) -> torch.Tensor:
    """Of some tiles."""
    chosen = torch.from_numpy(rows)
    logits = network(TILES[chosen])[:, 0]
    return nn.functional.binary_cross_entropy_with_logits(logits, LABELS[chosen], reduction="sum")


def train(
    pool: UnitPool,
    folder: Path,
    epochs: int = 3,
    seed: int = 1,
    *,
    save_every_s: float = 1e9,
    before_step=None,
    facts=(),
) -> ExactTraining:
    """Train, or go on."""
    use_one_thread()
    network = new_network().train()
    training = ExactTraining(
        pool,
        {"network": network},
        torch.optim.Adam(network.parameters(), 0.01),
        Checkpoint(folder / "state.pt", {"--seed": seed, **dict(facts)}),
        TrainingLog(folder),
        save_every_s=save_every_s,
    )
    training.begin(epochs)
    while training.epoch < epochs:
        for step in range(training.step_number, -(-N_TILES // STEP)):
            if before_step is not None:
                before_step(training)
            units = units_of_step(seed, training.epoch, step)

            def loss_of(unit: int, units=units, step=step) -> tuple[torch.Tensor, float]:
                seed_torch(seed, "dropout", training.epoch, step, unit)
                if "slow" in sys.argv and pool.rank == pool.size - 1:
                    time.sleep(0.02)
                return summed_loss(network, units[unit]), len(units[unit])

            training.step(len(units), loss_of)
        training.keep("last but one" if training.epoch == epochs - 2 else "last")
        training.end_epoch({"validation": float(training.epoch)})
    return training


if __name__ == "__main__":
    from mpi4py import MPI

    words = dict(word.partition("=")[::2] for word in sys.argv[3:])

    def maybe_die(training: ExactTraining) -> None:
        """Die where the command line says so."""
        rank, _, step = words.get("kill", "-1:0").partition(":")
        if (MPI.COMM_WORLD.rank, training.epoch * 5 + training.step_number) == (int(rank), int(step)):
            os.kill(os.getpid(), signal.SIGKILL)

    done = train(
        UnitPool(MPI.COMM_WORLD),
        Path(sys.argv[1]),
        int(sys.argv[2]) if len(sys.argv) > 2 else 3,
        int(words.get("seed", 1)),
        save_every_s=0.0 if "every-step" in words else 1e9,
        before_step=maybe_die,
    )
    if MPI.COMM_WORLD.rank == 0:
        sys.stdout.write(done.digest().hex())
