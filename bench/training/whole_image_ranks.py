"""What `bench.training.whole_image` starts on ranks: ``step FOLDER WIDTH HEIGHT`` or ``train FOLDER [slow]``.

The first takes one exact step on an image kept in FOLDER and prints seconds, CPU seconds and bytes of the ranks as
JSON. The second trains on small images, saving after each step, and prints the digest of what came of it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from mpi4py import MPI

from pyramidai_mpi.process.memory import peak_resident_bytes
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.exact.checkpoint import Checkpoint
from pyramidai_mpi.training.exact.gradients import ExactGradients
from pyramidai_mpi.training.exact.log import TrainingLog
from pyramidai_mpi.training.torch_setup import use_one_thread
from pyramidai_mpi.training.whole.allocator import keep_freed_memory
from pyramidai_mpi.training.whole.field import Field
from pyramidai_mpi.training.whole.fitting import WholeSettings, train_on_images
from pyramidai_mpi.training.whole.images import ArrayImage, KeptImage
from pyramidai_mpi.training.whole.step import BITS, ImageStep
from pyramidai_mpi.training.whole.unet import WholeImageUNet

FIELD = Field(WholeImageUNet.total_stride, WholeImageUNet.halo)
BLOCK = (2048, 1024)
SLOW_S = 0.05


def new_network() -> WholeImageUNet:
    """The same each time."""
    torch.manual_seed(0)
    return WholeImageUNet()


def take_step(folder: Path, size: tuple[int, int]) -> None:
    """One exact step, of which rank 0 tells."""
    comm = MPI.COMM_WORLD
    keep_freed_memory()
    network, pool = new_network(), UnitPool(comm)
    image = KeptImage("image", size, folder / "dark", folder / "marks", np.ones((1, 1), bool))
    step = ImageStep(network, FIELD, BLOCK, image)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    comm.Barrier()
    wall, cpu = time.perf_counter(), time.process_time()
    sums = ExactGradients({"network": network}, BITS, "block").of_step(pool, len(step.blocks), step.loss)
    optimizer.step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    of_ranks = comm.gather((cpu, peak_resident_bytes(), pool.units))
    balance = pool.busiest_over_ideal()
    if of_ranks is not None:
        cpus, peaks, units = zip(*of_ranks, strict=True)
        told = {"wall_s": wall, "cpu_s": sum(cpus), "peak_bytes": max(peaks), "units": units, "loss": sums.mean}
        sys.stdout.write(json.dumps(told | {"busiest_over_ideal": balance}))


def small_image(width: int, height: int, seed: int) -> ArrayImage:
    """A dark disk on bright ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    marks = (rows - height * rng.random()) ** 2 + (columns - width * rng.random()) ** 2 < (height / 3) ** 2
    return ArrayImage(str(seed), (np.where(marks, 110, 8) + rng.integers(-8, 9, marks.shape)).astype(np.uint8), marks)


def train(folder: Path, *, slow: bool, seed: int = 0) -> None:
    """Train, or go on; blocks divide nothing evenly."""
    comm = MPI.COMM_WORLD
    network = new_network()
    if slow and comm.rank == comm.size - 1:
        network.down1.register_forward_pre_hook(lambda *_: time.sleep(SLOW_S))
    training = train_on_images(
        UnitPool(comm),
        network,
        FIELD,
        ([small_image(700, 613, 1), small_image(512, 801, 2)], [small_image(450, 390, 3)]),
        WholeSettings(3, 6, 0, (600, 500), (224, 160), 1e-3, seed),
        Checkpoint(folder / "state.pt", {"--seed": seed}),
        TrainingLog(folder),
        save_every_s=0.0,
    )
    if comm.rank == 0:
        sys.stdout.write(training.digest().hex())


if __name__ == "__main__":
    use_one_thread()
    if sys.argv[1] == "step":
        take_step(Path(sys.argv[2]), (int(sys.argv[3]), int(sys.argv[4])))
    else:
        train(Path(sys.argv[2]), slow="slow" in sys.argv, seed=int("another-seed" in sys.argv))
