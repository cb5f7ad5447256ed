"""A vision transformer as an encoder: integers and bfloat16 beside float32, and torch with the same weights.

    python -m bench.speed.encoder TILES --weights weights.pt --work FOLDER [--speed] [--processes 1] [--cpu-time]
        [--ways "onnxruntime float32,OpenVINO int8"] [--json FILE]

TILES is a folder with a folder of pictures a class. The encoder is made by `models import` of the weights (see
`bench.speed.encoder_weights`), and calibrated in integers on 64 of the tiles with even numbers. Without --speed:
cosines between features in float32 and otherwise, on --count of the tiles with odd numbers, and between what is left of
both when the mean over these tiles is taken off, which tells tiles apart. With it: tiles/s, all in turn, three times;
of torch the best of several batches. With --processes N as many do the same at the same time, of one thread each.
--cpu-time counts processor seconds, on a machine with other work; --ways names some, the first to compare with.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, print_table, report

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.synchronize import Barrier

ROUNDS = 3
TORCH_BATCHES = (1, 4, 8, 16)
NAME = "vit_small_patch16_224"
_STEPS = 97
"""Prime to the number of tiles, so that few of them are spread over all."""


def prepare(asked: Any) -> None:
    """Make both packages where they are not there."""
    from bench.speed.encoder_weights import read_tile, tile_files
    from pyramidai_mpi.models.engines.base import SeenTiles
    from pyramidai_mpi.models.package import load_package
    from pyramidai_mpi.models.quantisation.encoder import quantise_encoder, write_quantised_encoder
    from pyramidai_mpi.training.convert.timm_package import EncoderRequest, import_encoder

    asked.work.mkdir(parents=True, exist_ok=True)
    if not (asked.work / "float32").exists():
        print(import_encoder(asked.work / "float32", EncoderRequest(NAME, 0.25, weights=asked.weights))[1])
    if not (asked.work / "int8").exists():
        files = [path for path, _ in tile_files(asked.tiles)]
        halves = []
        for half in (files[::2], files[1::2]):
            some = np.stack([read_tile(half[n * _STEPS % len(half)]) for n in range(64)])
            halves.append(SeenTiles(some, np.zeros((len(some), 2), np.float32)))
        package = load_package(asked.work / "float32")
        done = quantise_encoder(package, *halves, asked.work)
        write_quantised_encoder(package, done, asked.work / "int8")


def ways(work: Path) -> dict[str, Callable[[], Any]]:
    """How engines are loaded, by name."""
    from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
    from pyramidai_mpi.models.engines.openvino_engine import OpenVinoEngine
    from pyramidai_mpi.models.package import load_package

    plain, whole = load_package(work / "float32"), load_package(work / "int8")
    return {
        "onnxruntime float32": lambda: OnnxEngine(plain.levels[0], plain),
        "onnxruntime int8": lambda: OnnxEngine(whole.levels[0], whole),
        "OpenVINO float32": lambda: OpenVinoEngine(plain.levels[0], plain),
        "OpenVINO bfloat16": lambda: OpenVinoEngine(plain.levels[0], plain, precision="bfloat16"),
        "OpenVINO int8": lambda: OpenVinoEngine(whole.levels[0], whole),
        "OpenVINO int8 and bfloat16": lambda: OpenVinoEngine(whole.levels[0], whole, precision="bfloat16"),
    }


def compare(asked: Any) -> list[Figure]:
    """Cosines on the tiles with odd numbers."""
    from bench.speed.encoder_weights import read_tile, tile_files
    from pyramidai_mpi.models.engines.features import cosines

    held_out = tile_files(asked.tiles)[1::2]
    tiles = np.stack([read_tile(path) for path, _ in held_out[:: max(1, len(held_out) // asked.count)]])
    expected, figures = None, []
    wanted = [name for name in asked.ways.split(",") if name]
    for name, load in ways(asked.work).items():
        if wanted and name not in wanted:
            continue
        _, features = load().predict(tiles, features=True)
        expected = features if expected is None else expected
        common = expected.mean(axis=0)
        for kind, alike in (
            ("", cosines(expected, features)),
            (" without the common part", cosines(expected - common, features - common)),
        ):
            for what, value in (("least", alike.min()), ("median", np.median(alike))):
                figures.append(Figure(f"{name}: {what} cosine{kind}", float(value), "", {"tiles": len(tiles)}))
    others = cosines(expected[:-1], expected[1:])
    figures.append(Figure("two different tiles: median cosine", float(np.median(others)), ""))
    print("\n".join(f"{one.figure}: {one.value:.6f}" for one in figures))
    return figures


def _torch_ways(asked: Any) -> dict[str, Callable[[np.ndarray], Any]]:
    import torch

    from pyramidai_mpi.models.package import FloatInput
    from pyramidai_mpi.training.convert.tile_classifier import TileEncoder
    from pyramidai_mpi.training.convert.timm_network import encoder

    torch.set_num_threads(1)
    found = encoder(NAME, {}, asked.weights, None)
    network = TileEncoder(found.network, found.float_input or FloatInput((0.5,) * 3, (0.5,) * 3)).eval()

    def run(tiles: np.ndarray, batch: int, *, half: bool) -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            for n in range(0, len(tiles), batch):
                network(torch.from_numpy(tiles[n : n + batch]))

    known = {}
    for batch in TORCH_BATCHES:
        known[f"torch float32 by {batch}"] = lambda tiles, n=batch: run(tiles, n, half=False)
        known[f"torch bfloat16 by {batch}"] = lambda tiles, n=batch: run(tiles, n, half=True)
    return known


def _measure(asked: Any, barrier: Barrier, seen: Any) -> None:
    """One process: every way in turn, at the same time as the others."""
    from bench.speed.encoder_weights import read_tile, tile_files

    files = [path for path, _ in tile_files(asked.tiles)]
    tiles = np.stack([read_tile(files[n * _STEPS % len(files)]) for n in range(asked.tiles_timed)])
    clock = time.process_time if asked.cpu_time else time.perf_counter
    wanted = [name for name in asked.ways.split(",") if name]
    ours = {name: load() for name, load in ways(asked.work).items() if not wanted or name in wanted}
    known: dict[str, Callable[[np.ndarray], Any]] = {}
    if not wanted or any(name.startswith("torch") for name in wanted):
        known |= {name: run for name, run in _torch_ways(asked).items() if not wanted or name in wanted}
    known |= {name: lambda tiles, one=one: one.predict(tiles, features=True) for name, one in ours.items()}
    for turn in range(-1, ROUNDS):
        for name, run in known.items():
            some = tiles if turn >= 0 else tiles[:4]  # the first turn warms up
            barrier.wait()
            started = clock()
            run(some)
            seconds = clock() - started
            barrier.wait()
            if turn >= 0:
                seen.append((name, turn, len(some) / seconds))


def speeds(asked: Any) -> list[Figure]:
    """Tiles/s of all processes together: median of the turns, and their range."""
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        seen, barrier = manager.list(), context.Barrier(asked.processes)
        workers = [context.Process(target=_measure, args=(asked, barrier, seen)) for _ in range(asked.processes)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        rows = list(seen)
    by_name: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for name, _, _ in rows):
        by_name[name] = [sum(value for one, turn, value in rows if (one, turn) == (name, n)) for n in range(ROUNDS)]
    for precision in ("float32", "bfloat16"):  # of torch the best batch
        batches = [name for name in by_name if name.startswith(f"torch {precision}")]
        if not batches:
            continue
        best = max(batches, key=lambda name: statistics.median(by_name[name]))
        for name in batches:
            if name != best:
                del by_name[name]
    middle = {name: statistics.median(values) for name, values in by_name.items()}
    first = next((name for name in asked.ways.split(",") if name in middle), next(iter(middle)))
    print_table(
        ("way", "tiles/s (range)", f"over {first}"),
        (
            (
                name,
                f"{middle[name]:.1f} ({min(values):.1f} to {max(values):.1f})",
                f"{middle[name] / middle[first]:.2f}",
            )
            for name, values in by_name.items()
        ),
    )
    setting = {"processes": asked.processes}
    return [Figure(f"{name}: tiles/s", value, "1/s", setting) for name, value in middle.items()]


def main() -> None:
    """Measure and print."""
    parser = command_line(__doc__, "json")
    parser.add_argument("tiles", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True, help="folder for the packages, which are kept")
    parser.add_argument("--count", type=int, default=232)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--ways", default="", metavar="NAME,...")
    parser.add_argument("--tiles-timed", type=int, default=16)
    asked = parser.parse_args()
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    prepare(asked)
    report(speeds(asked) if asked.speed else compare(asked), asked.json)


if __name__ == "__main__":
    main()
