"""What gradients cost, and how far they are from torch's, for every network that ``train`` makes.

    python -m bench.explain.gradient_cost [--network NAME]... [--side 224] [--tiles 4] [--json FILE]
    python -m bench.explain.gradient_cost --shipped 1000 [--json FILE]

Random networks with random weights and means, on generated pixels, one thread, CPU seconds. Ways in turn, medians of
the ratios within a turn:

*inference*: the tiles as a run looks at them, in the engine's batches. *Grad-CAM*: the last maps before the head, their
gradients and the map. *pixels*: gradients at the pixels, through the whole network and back, over one *forward* pass of
the same tiles one by one.

*apart*: the largest difference of a pixel's gradient from that by torch in float64, over the largest gradient, of the
nearest of five tiles; and torch's own in float32 likewise. At a kink (a ReLU at 0, two nearly equal values under a
maximum) numbers may round to the other side, in torch's float32 as in ours, and pixels that this one value sees differ.

With ``--shipped N``: the networks of level 0 of the shipped packages, N tiles, by inference and by Grad-CAM, the
loading of either included.
"""

from __future__ import annotations

import copy
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np

from bench.command_line import Options, command_line
from bench.figures import Figure, report
from pyramidai_mpi.explain.cam import gradcam
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.engines.fixed_batch import sample_tiles
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import ModelLevel, load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.training.architectures import ARCHITECTURES, new_network
from pyramidai_mpi.training.networks.export import to_onnx

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.training.networks.tile_network import TileNetwork

_CLASS = 1


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--network", action="append", choices=[row.name for row in ARCHITECTURES])
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--tiles", type=int, default=4)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--shipped", type=int, metavar="N", default=0)
    return parser.parse_args()


def random_network(name: str) -> TileNetwork:
    """A network whose batch norms do something."""
    import torch

    network, generator = new_network(name, 1), torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2, generator)  # timm begins with zeros where a block ends
    return network.eval()


def of_torch(network: TileNetwork, tile: RgbArray, dtype: npt.DTypeLike) -> npt.NDArray[np.float64]:
    """The gradient of the log-odds at the pixels of one tile, computed in `dtype` throughout."""
    import torch

    given = torch.from_numpy(tile.astype(dtype)).requires_grad_()
    # whatever type the network says that it wants
    with (
        mock.patch.object(torch, "float32", given.dtype),
        mock.patch.object(torch.Tensor, "float", lambda values: values.to(given.dtype)),
    ):
        network.odds(given).sum().backward()
    assert given.grad is not None
    return np.asarray(given.grad.numpy(), np.float64)


def apart(engine: GradientEngine, network: TileNetwork, tiles: RgbArray) -> tuple[float, float]:
    """How far our gradients, and those by torch in float32, are from torch's in float64, each of its nearest tile."""
    exact = copy.deepcopy(network).double()
    ours, torchs = [], []
    for number in range(len(tiles)):
        tile = tiles[number : number + 1]
        floats = tile.astype(np.float32)
        found = engine.input_gradients(floats, 1).astype(np.float64)
        # with a softmax, the log-odds are the difference of two logits
        logits = engine.logits(floats)[0]
        if logits[0] != -logits[1]:
            found = found - engine.input_gradients(floats, 0)
        wanted = of_torch(exact, tile, np.float64)
        for differences, values in ((ours, found), (torchs, of_torch(network, tile, np.float32))):
            differences.append(float(np.abs(values - wanted).max() / np.abs(wanted).max()))
        if max(min(ours), min(torchs)) < 1e-5:
            break
    return min(ours), min(torchs)


def explained(engine: GradientEngine, tiles: RgbArray) -> None:
    """Grad-CAM of tiles."""
    name = engine.layers[0].name
    for number in range(len(tiles)):
        looked = engine.look(tiles[number : number + 1], _CLASS)
        gradcam(looked.activations[name][0], looked.gradients[name][0])


def timed(act: Callable[[], object]) -> float:
    """CPU seconds."""
    started = time.process_time()
    act()
    return time.process_time() - started


def of_network(name: str, package: ModelPackage, arguments: Options) -> list[Figure]:
    """All figures of one architecture."""
    level, tiles = package.levels[0], sample_tiles(arguments.tiles, package.tile_size)
    floats = tiles.astype(np.float32)
    inference, engine = OnnxEngine(level, package), GradientEngine(level, package)
    ways: dict[str, Callable[[], object]] = {
        "inference": lambda: inference.predict(tiles),
        "Grad-CAM": lambda: explained(engine, tiles),
        "forward": lambda: engine.logits(floats),
        "pixels": lambda: engine.input_gradients(floats, _CLASS),
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for turn in range(arguments.repetitions + 1):
        for way, act in ways.items():
            taken = timed(act)
            if turn:  # the first warms up
                seconds[way].append(taken / len(tiles))
    setting = {"network": name, "side": package.tile_size, "layer": engine.layers[0].name}

    def ratio(first: str, second: str) -> float:
        return median(a / b for a, b in zip(seconds[first], seconds[second], strict=True))

    return [
        Figure("inference", 1e3 * median(seconds["inference"]), "ms/tile", setting),
        Figure("Grad-CAM / inference", ratio("Grad-CAM", "inference"), "", setting),
        Figure("pixels / forward", ratio("pixels", "forward"), "", setting),
    ]


def of_architecture(name: str, arguments: Options) -> list[Figure]:
    """All figures of a random network."""
    network = random_network(name)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(to_onnx(network, arguments.side))
        level = ModelLevel(0, path, 0.5, "0" * 64)
        package = replace(load_package(default_model()), tile_size=arguments.side, levels=(level,))
        figures = of_network(name, package, arguments)
        shape = (5, arguments.side, arguments.side, 3)
        tiles = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
        ours, torchs = apart(GradientEngine(level, package), network, tiles)
    return [
        *figures,
        Figure("apart, millionths", 1e6 * ours, "", {"network": name}),
        Figure("apart by torch in float32, millionths", 1e6 * torchs, "", {"network": name}),
    ]


def of_shipped(folder: Path, n_tiles: int) -> list[Figure]:
    """Many tiles by inference and by Grad-CAM, with a fresh engine each."""
    package = load_package(folder)
    level = package.levels[0]
    tiles = sample_tiles(20, package.tile_size)[np.arange(n_tiles) % 20]
    seconds = [
        (
            timed(lambda: OnnxEngine(level, package).predict(tiles)),
            timed(lambda: explained(GradientEngine(level, package), tiles)),
        )
        for _ in range(3)
    ]
    setting = {"model": package.name, "tiles": n_tiles}
    return [
        Figure("inference", median(first for first, _ in seconds), "CPU s", setting),
        Figure("Grad-CAM", median(second for _, second in seconds), "CPU s", setting),
        Figure("Grad-CAM / inference", median(second / first for first, second in seconds), "", setting),
    ]


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    figures: list[Figure] = []
    if arguments.shipped:
        for folder in (default_model(), default_model().parent / "small-valid"):
            figures += of_shipped(folder, arguments.shipped)
    else:
        import torch

        torch.set_num_threads(1)
        for name in arguments.network or [row.name for row in ARCHITECTURES]:
            figures += of_architecture(name, arguments)
            report(figures[-5:], None)
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
