"""What stain normalisation costs: tiles per second of CPU with and without it, one thread, tiles in memory.

    python -m bench.speed.stain_cost SLIDE [--model DIR]... [--backend onnxruntime|openvino]... [--mpp X] [--json FILE]
    python -m bench.speed.stain_cost SLIDE --per tile [--side 224]... [--model DIR] [--mpp X] [--json FILE]

Level 0 of each model (default: the shipped one). A pass is all tiles, normalised one by one and classified in the
engine's batches; ways in turn, medians of the ratios within a turn. What was tried instead: *in numpy*, the same map in
float32; and with onnxruntime *merged*, the same operators as part of the network's graph.

With ``--per tile``: each tile's own stain against the slide's, without a network, for tiles of each side, drawn from
the slide's tissue at the spacing of the model's level 0. What it costs; how many tiles have too little tissue; and how
much the pixels that two neighbouring windows share differ once each is normalised by itself, in grey levels: windows
that lie half a side apart, and `NEAR` px, the stride of the FDA's maps. By the slide's stain they do not differ at all.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import compose

from bench.command_line import Options, command_line
from bench.figures import Figure, report
from pyramidai_mpi.models.check import input_name
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.onnx_engine import open_session
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.models.stain.engine import Normaliser, StainEngine
from pyramidai_mpi.models.stain.graph import stain_graph
from pyramidai_mpi.models.stain.map import MacenkoTarget, ReinhardTarget, StainError, colours_of, estimate
from pyramidai_mpi.run.sampling import sample_tiles

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.models.stain.map import StainMap, StainTarget

    Normalise = Callable[[RgbArray], RgbArray]
    Classify = Callable[[RgbArray], npt.NDArray[np.float32]]

NEAR = 16
"""Pixels between neighbouring windows of a dense map."""


def parse_arguments() -> Options:
    """The command line."""
    parser = command_line(__doc__, "json")
    parser.add_argument("slide", type=Path)
    parser.add_argument("--model", type=Path, action="append")
    parser.add_argument("--backend", action="append", choices=["onnxruntime", "openvino"])
    parser.add_argument("--mpp", type=float, default=None)
    parser.add_argument("--tiles", type=int, default=32)
    parser.add_argument("--repetitions", type=int, default=9)
    parser.add_argument("--per", choices=["slide", "tile"], default="slide")
    parser.add_argument("--side", type=int, action="append", help="of --per tile")
    return parser.parse_args()


def in_numpy(stain: StainMap) -> Normalise:
    """The map in float32 numpy, whole planes at a time, with a table of logarithms where channels are not mixed."""
    first, inner, outer = (np.array(m, np.float32) for m in (stain.first, stain.inner, stain.outer))
    shift = np.array(stain.shift, np.float32)
    values = np.arange(256, dtype=np.float32) + 1
    tables = None if stain.mixes_channels else np.log(np.diagonal(first)[:, None] * values)

    def mixed(matrix: np.ndarray, planes: list[np.ndarray]) -> list[np.ndarray]:
        rows = []
        for row in matrix:
            total = planes[0] * row[0]
            for weight, plane in zip(row[1:], planes[1:], strict=True):
                if weight:
                    total += weight * plane
            rows.append(total)
        return rows

    def normalise(pixels: RgbArray) -> RgbArray:
        channels = [np.ascontiguousarray(pixels[..., c]) for c in range(3)]
        if tables is not None:
            logs = [table[channel] for table, channel in zip(tables, channels, strict=True)]
        else:
            logs = [np.log(plane) for plane in mixed(first, [channel.astype(np.float32) + 1 for channel in channels])]
        lights = [np.exp(plane + one) for plane, one in zip(mixed(inner, logs), shift, strict=True)]
        out = np.empty_like(pixels)
        for c, plane in enumerate(mixed(outer, lights)):
            out[..., c] = np.rint(np.clip(plane + np.float32(stain.offset), 0, 255))
        return out

    return normalise


def merged(level: ModelLevel, normaliser: Normaliser, batch_shape: int) -> Classify:
    """The network with the stain graph before it, as one graph in onnxruntime."""
    network = onnx.load(level.onnx_path)
    mixes = "first" in normaliser.numbers
    stain = onnx.load_from_string(stain_graph(mixes_channels=mixes))
    stain.ir_version = network.ir_version
    stain.opset_import[0].version = next(entry.version for entry in network.opset_import if not entry.domain)
    for value in (*stain.graph.input[:1], *stain.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    joined = compose.merge_models(
        compose.add_prefix(stain, "stain/"), network, io_map=[("stain/normalised", input_name(level.onnx_path))]
    )
    session = open_session(joined.SerializeToString())
    numbers = {f"stain/{name}": value for name, value in normaliser.numbers.items()}
    first = session.get_outputs()[0].name

    def classify(tiles: RgbArray) -> npt.NDArray[np.float32]:
        batches = [tiles[k : k + batch_shape] for k in range(0, len(tiles), batch_shape)]
        return np.concatenate([session.run([first], {"stain/pixels": batch, **numbers})[0] for batch in batches])

    return classify


def targets_of(pixels: RgbArray) -> dict[str, StainTarget]:
    """Macenko's own colours, and for Reinhard's method the slide's, somewhat brighter."""
    own = colours_of(pixels, "reinhard")
    assert isinstance(own, ReinhardTarget)
    brighter = ReinhardTarget((own.mean[0] + 0.05, own.mean[1], own.mean[2]), own.std)
    return {"macenko": MacenkoTarget(), "reinhard": brighter}


def ways_of(tiles: RgbArray) -> dict[str, Normalise | None]:
    """What is done to tiles before the network sees them."""
    pixels = tiles[:, ::4, ::4].reshape(-1, 3)
    ways: dict[str, Normalise | None] = {"nothing": None}
    for method, target in targets_of(pixels).items():
        stain = estimate(pixels, target)
        ways[method] = StainEngine(stain_graph(mixes_channels=stain.mixes_channels)).normaliser(stain)
        ways[f"{method} in numpy"] = in_numpy(stain)
    return ways


def passing(engine: FixedBatchEngine, normalise: Normalise | None) -> Classify:
    """Tiles one by one through the normalisation, then in batches through the network."""

    def classify(tiles: RgbArray) -> npt.NDArray[np.float32]:
        return engine.predict(tiles if normalise is None else np.stack([normalise(tile) for tile in tiles]))[0]

    return classify


def neighbours_differ(regions: RgbArray, side: int, shift: int, normalise: Normalise) -> list[float]:
    """Of each region, mean absolute difference in grey levels of what two windows in it share, each normalised alone.

    Parameters
    ----------
    regions
        uint8 (n, height, width, 3), larger than two windows that are `shift` apart.
    side, shift
        Of the windows, and from one to the next to its right.
    normalise
        Regions in which it raises `StainError` for one of the windows are left out.
    """
    found = []
    for region in regions:
        try:
            left, right = (normalise(np.ascontiguousarray(region[:side, x : x + side])) for x in (0, shift))
        except StainError:
            continue
        found.append(float(np.abs(left[:, shift:].astype(int) - right[:, :-shift]).mean()))
    return found


def with_stain(tiles: RgbArray, normalise: Normalise) -> RgbArray:
    """Those of tiles (n, T, T, 3) that can be normalised."""

    def can_be(tile: RgbArray) -> bool:
        try:
            normalise(tile)
        except StainError:
            return False
        return True

    return tiles[[can_be(tile) for tile in tiles]]


def of_each_tile(slide: Path, package: ModelPackage, side: int, arguments: Options) -> list[Figure]:
    """Each tile's own stain against the slide's, for tiles of one side."""
    wide = replace(package, tile_size=side + side // 2, stain="none", stain_target=None)
    regions = sample_tiles([slide], wide, arguments.tiles, 0, mpp=arguments.mpp)[0][0].pixels
    drawn = np.ascontiguousarray(regions[:, :side, :side])
    pixels = regions[:, ::4, ::4].reshape(-1, 3)
    figures = []
    for method, target in targets_of(pixels).items():
        stain = estimate(pixels, target)
        engine = StainEngine(stain_graph(mixes_channels=stain.mixes_channels))
        ways: dict[str, Normalise] = {"slide": engine.normaliser(stain), "tile": engine.tile_normaliser(target)}
        tiles = with_stain(drawn, ways["tile"])
        setting = {"side": side, "tiles": len(tiles)}
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(arguments.repetitions + 1):
            for way, normalise in ways.items():
                started = time.process_time()
                for tile in tiles:
                    normalise(tile)
                if turn:  # the first warms up
                    seconds[way].append((time.process_time() - started) / len(tiles))
        for way, taken in seconds.items():
            figures.append(Figure(f"{method} per {way}", 1e3 * median(taken), "ms/tile", setting))
        changed = [float(np.abs(ways["slide"](tile).astype(int) - tile).mean()) for tile in tiles]
        apart = [float(np.abs(ways["slide"](tile).astype(int) - ways["tile"](tile)).mean()) for tile in tiles]
        figures += [
            Figure(f"{method} per tile: unreadable", 100 * (1 - len(tiles) / len(drawn)), "% of tiles", setting),
            Figure(f"{method} per slide changes", float(np.mean(changed)), "grey", setting),
            Figure(f"{method} per tile differs from per slide", float(np.mean(apart)), "grey", setting),
        ]
        for shift in (NEAR, side // 2):
            assert not any(neighbours_differ(regions, side, shift, ways["slide"]))
            found = neighbours_differ(regions, side, shift, ways["tile"])
            at = {"side": side, "pairs": len(found), "px apart": shift}
            figures += [
                Figure(f"{method} per tile: neighbours differ, mean", float(np.mean(found)), "grey", at),
                Figure(f"{method} per tile: neighbours differ, 90 %", float(np.percentile(found, 90)), "grey", at),
            ]
    return figures


def main() -> None:
    """Measure and print."""
    arguments = parse_arguments()
    figures: list[Figure] = []
    if arguments.per == "tile":
        for folder in arguments.model or [default_model()]:
            for side in arguments.side or [224, 448]:
                figures += of_each_tile(arguments.slide, read_package(folder), side, arguments)
        report(figures, arguments.json)
        return
    for folder in arguments.model or [default_model()]:
        package = read_package(folder)
        tiles = sample_tiles([arguments.slide], package, arguments.tiles, 0, mpp=arguments.mpp)[0][0].pixels
        ways = ways_of(tiles)
        seen = {way: (tiles if act is None else np.stack([act(tile) for tile in tiles])) for way, act in ways.items()}
        for method in ("macenko", "reinhard"):
            apart = np.abs(seen[method].astype(int) - seen[f"{method} in numpy"]).max()
            assert apart <= 1, f"graph and numpy differ by {apart}"
        for backend in arguments.backend or ["onnxruntime"]:
            engine = load_engine(package.levels[0], package, backend)
            passes: dict[str, Classify] = {way: passing(engine, act) for way, act in ways.items()}
            if backend == "onnxruntime":
                for method in ("macenko", "reinhard"):
                    normaliser = ways[method]
                    assert isinstance(normaliser, Normaliser)
                    passes[f"{method} merged"] = merged(package.levels[0], normaliser, engine.batch_shape)
                    apart = np.abs(passes[f"{method} merged"](tiles) - passes[method](tiles)).max()
                    assert apart < 0.01, f"merged and apart differ by {apart}"
            seconds: dict[str, list[float]] = {way: [] for way in passes}
            for turn in range(arguments.repetitions + 1):
                for way, classify in passes.items():
                    started = time.process_time()
                    classify(tiles)
                    if turn:  # the first warms up
                        seconds[way].append((time.process_time() - started) / len(tiles))
            setting = {"model": package.name, "backend": backend, "tiles": len(tiles)}
            for way, taken in seconds.items():
                figures.append(Figure(f"{way}: tiles", 1 / median(taken), "tiles/CPU s", setting))
                if way != "nothing":
                    pairs = list(zip(taken, seconds["nothing"], strict=True))
                    figures.append(Figure(f"{way}: speed / without", median(b / a for a, b in pairs), "", setting))
                    figures.append(Figure(f"{way}: more", 1e3 * median(a - b for a, b in pairs), "ms/tile", setting))
    report(figures, arguments.json)


if __name__ == "__main__":
    main()
