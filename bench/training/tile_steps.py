"""Steps of `train` on the ranks that it is started on, for `bench.training.tiles`: seconds of each, and CPU seconds.

    mpirun -n N python -m bench.training.tile_steps [--arch A] [--side S] [--batch B] [--micro-batch M] [--steps N]
        [--policy P] [--unit-ms T] [--slow 3] [--plain]

The network is trained on made-up tiles: the exact step, on all ranks together. With `--plain` a plain loop of torch on
the same network, batch and augmentation takes turns with it, on one rank. With `--unit-ms` each micro-batch sleeps so
that it takes this time, and the last rank `--slow` times as long; the network should be a small one.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()  # one thread a rank, as the program has it

import numpy as np  # noqa: E402
import torch  # noqa: E402
from mpi4py import MPI  # noqa: E402
from torch.nn.functional import binary_cross_entropy_with_logits  # noqa: E402

from bench.command_line import command_line  # noqa: E402
from pyramidai_mpi.ranks.unit_pool import UnitPool  # noqa: E402
from pyramidai_mpi.sched import Policy  # noqa: E402
from pyramidai_mpi.training.architectures import new_network  # noqa: E402
from pyramidai_mpi.training.augment import augmented  # noqa: E402
from pyramidai_mpi.training.exact.gradients import ExactGradients  # noqa: E402
from pyramidai_mpi.training.fit_settings import FitSettings  # noqa: E402
from pyramidai_mpi.training.fitting import MicroBatches, new_optimizer, units_of_step  # noqa: E402
from pyramidai_mpi.training.tile_store import LabelledTiles  # noqa: E402
from pyramidai_mpi.training.torch_setup import use_one_thread  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.command_line import Options


def main() -> None:
    """Take the steps, and print what they took on rank 0."""
    parser = command_line(__doc__)
    parser.add_argument("--arch", default="small")
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--policy", default="steal-half")
    parser.add_argument("--unit-ms", type=float, default=0.0)
    parser.add_argument("--slow", type=float, default=1.0)
    parser.add_argument("--plain", action="store_true")
    options = parser.parse_args()
    use_one_thread()
    ways = {"exact": exact_steps(options)} | ({"plain": plain_steps(options)} if options.plain else {})
    seconds: dict[str, list[float]] = {f"{name}{clock}": [] for name in ways for clock in ("", " cpu")}
    for number in range(options.steps + 1):
        for name, step in ways.items():
            MPI.COMM_WORLD.Barrier()
            start, cpu_start = time.perf_counter(), time.process_time()
            step(number)
            cpu = time.process_time() - cpu_start
            MPI.COMM_WORLD.Barrier()
            if number:  # in the first one memory is taken, and kernels are chosen
                seconds[name].append(time.perf_counter() - start)
                seconds[f"{name} cpu"].append(cpu)
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(seconds))


def made_up(options: Options) -> LabelledTiles:
    """Tiles of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (options.batch, options.side, options.side, 3), np.uint8)
    return LabelledTiles(pixels, np.arange(options.batch) % 2 == 0)


def exact_steps(options: Options) -> Callable[[int], Any]:
    """What `train` does in a step."""
    settings = FitSettings(batch_size=options.batch, micro_batch=options.micro_batch)
    network, tiles = new_network(options.arch, 0).train(), made_up(options)
    pool = UnitPool(MPI.COMM_WORLD, policy=Policy(options.policy))
    optimizer, gradients = new_optimizer(network, settings), ExactGradients({"network": network})
    slowness = options.slow if pool.rank == pool.size - 1 else 1.0

    def step(number: int) -> None:
        units = units_of_step(options.batch, settings, 0, 0, 0)
        work = MicroBatches(network, tiles, units, settings, (1.0, 1.0), (0, 0, number))

        def loss_of(unit: int) -> tuple[torch.Tensor, float]:
            start = time.perf_counter()
            found = work.loss_of(unit)
            if options.unit_ms:
                time.sleep(max(options.unit_ms / 1000 * slowness - (time.perf_counter() - start), 0))
            return found

        gradients.of_step(pool, len(units), loss_of)
        optimizer.step()

    return step


def plain_steps(options: Options) -> Callable[[int], Any]:
    """The loop that everybody writes: a batch forward, backward, a step of Adam."""
    network, tiles = new_network(options.arch, 0).train(), made_up(options)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    labels, rng = torch.from_numpy(tiles.positive.astype(np.float32)), np.random.default_rng(0)

    def step(_number: int) -> None:
        batch = torch.from_numpy(augmented(tiles.pixels[:], rng, FitSettings().augment))
        loss = binary_cross_entropy_with_logits(network.odds(batch)[:, 0], labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


if __name__ == "__main__":
    main()
