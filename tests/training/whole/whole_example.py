"""A small training on whole images for tests: generated images, blocks that divide nothing evenly.

As a program: ``whole_example.py FOLDER [slow] [seed=N] [kill=RANK:STEP]`` trains on all ranks, saving after each step,
and prints the digest of what came of it.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.exact.checkpoint import Checkpoint
from pyramidai_mpi.training.exact.log import TrainingLog
from pyramidai_mpi.training.torch_setup import use_one_thread
from pyramidai_mpi.training.whole.field import Field
from pyramidai_mpi.training.whole.fitting import WholeSettings, train_on_images
from pyramidai_mpi.training.whole.images import ArrayImage
from pyramidai_mpi.training.whole.unet import WholeImageUNet

if TYPE_CHECKING:
    from pyramidai_mpi.training.exact.loop import ExactTraining

FIELD = Field(32, 128)


class PlainUNet(nn.Module):
    """The same network as torch has it: pixels repeated, then convolved."""

    def __init__(self, like: WholeImageUNet) -> None:
        super().__init__()
        for name, module in like.named_children():
            setattr(self, name, module)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        def nearest(layer: torch.Tensor, by: int) -> torch.Tensor:
            return nn.functional.interpolate(layer, scale_factor=by, mode="nearest")

        first = self.down1(image).relu()
        second = self.down2(first).relu()
        deepest = self.bottom(self.down3(second).relu()).relu()
        middle = self.up2(nearest(deepest, 2)).relu() + second
        return self.out(nearest(self.up1(nearest(middle, 4)).relu() + first, 4))


def new_image(width: int, height: int, seed: int) -> ArrayImage:
    """Dark ellipses on bright ground, with noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    marks = np.zeros((height, width), bool)
    for _ in range(4):
        y, x, a, b = rng.random(4) * (height, width, height / 3, width / 3) + (0, 0, 20, 20)
        marks |= ((rows - y) / a) ** 2 + ((columns - x) / b) ** 2 < 1
    dark = np.where(marks, 120, 10) + rng.integers(-9, 10, marks.shape)
    return ArrayImage(f"image {seed}", dark.astype(np.uint8), marks)


IMAGES = [new_image(413, 350, 1), new_image(300, 500, 2)], [new_image(200, 333, 3)]


def train(pool: UnitPool, folder: Path, seed: int = 1, *, before_step=None, learning_rate=1e-2) -> ExactTraining:
    """Train, or go on."""
    use_one_thread()
    torch.manual_seed(0)
    network = WholeImageUNet()
    if before_step is not None:
        network.down1.register_forward_pre_hook(before_step)
    return train_on_images(
        pool,
        network,
        FIELD,
        IMAGES,
        WholeSettings(2, 3, 0, (256, 320), (96, 128), learning_rate, seed),
        Checkpoint(folder / "state.pt", {"--seed": seed}),
        TrainingLog(folder),
        save_every_s=0.0,
    )


if __name__ == "__main__":
    from mpi4py import MPI

    words = dict(word.partition("=")[::2] for word in sys.argv[2:])
    rank = MPI.COMM_WORLD.rank
    doomed, _, moment = words.get("kill", "-1:0").partition(":")
    blocks = 0

    def before_block(*_: object) -> None:
        """Be slow, or die, where the command line says so."""
        global blocks
        blocks += 1
        if "slow" in words and rank == MPI.COMM_WORLD.size - 1:
            time.sleep(0.03)
        if rank == int(doomed) and blocks == int(moment):
            os.kill(os.getpid(), signal.SIGKILL)

    done = train(UnitPool(MPI.COMM_WORLD), Path(sys.argv[1]), int(words.get("seed", 1)), before_step=before_block)
    if rank == 0:
        sys.stdout.write(done.digest().hex())
