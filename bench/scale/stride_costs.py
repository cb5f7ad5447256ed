"""What one core pays for windows at a stride, by processor time, and which share adaptive strides look at; as JSON.

Used by `bench.scale.strides_on_paper`. One process, one thread, pages of the slide cached. Windows are those of
neighbouring blocks of a real slide; ways take turns, so that a busy machine slows all of them, and medians are kept.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

from bench.scale.tile_costs import REPETITIONS, machine, processor_seconds, read_tiles
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.models.dense.engine import SharedEngine
from pyramidai_mpi.models.dense.sharing import try_sharing
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.pyramid.run_levels import uniform_levels
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.opening import open_under, rule_of, tissue_of
from pyramidai_mpi.simulate.stored import read_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import ModelPackage

STRIDES = (16, 64, 128, 224)
SHARED = (16, 64)
"""Those of which several windows make a block; at coarser ones a tile is one window, and nothing is shared."""
WINDOW = 224
ADAPTIVE_BLOCK = 28
"""Windows along the side of a block of the finest stride, 16, of `--stride-mode adaptive-shared`."""
_WINDOWS = 64


@dataclass(frozen=True)
class NetworkCosts:
    """One network behind one library.

    Attributes
    ----------
    name
        Library and model.
    window_s
        Seconds of a window by itself.
    pass_s
        Seconds of one pass over a block, by stride and windows along the block's side, as ``16 x 56``; empty where
        windows cannot share passes exactly.
    """

    name: str
    window_s: float
    pass_s: dict[str, float]


@dataclass(frozen=True)
class Share:
    """Windows that adaptive strides looked at, of all at stride 16; and of the blocks, those that passes were for.

    Attributes
    ----------
    name
        What they are of.
    windows, n_all
        How many were computed, blocks by passes not counted; and how many there are.
    passes
        Windows of the blocks at the finest stride, 0 where none was computed in a pass.
    """

    name: str
    windows: int
    n_all: int
    passes: int = 0


@dataclass(frozen=True)
class StrideCosts:
    """What was seen in one go.

    Attributes
    ----------
    machine, slide
        Where, and on what slide.
    read_s
        Seconds to read the pixels of all windows of a tile of 224 px of tissue: a region of 432 px at stride 16.
    networks
        By library and model.
    shares
        Of adaptive strides.
    """

    machine: str
    slide: str
    read_s: float
    networks: tuple[NetworkCosts, ...]
    shares: tuple[Share, ...] = ()

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> StrideCosts:
        """Read what `save` has written."""
        if not path.is_file():
            raise SystemExit(f"no costs at {path}: measure them with --measure SLIDE --network LIBRARY:MODEL")
        found = json.loads(path.read_text())
        networks = tuple(NetworkCosts(**one) for one in found["networks"])
        return cls(found["machine"], found["slide"], found["read_s"], networks, tuple(map(_share, found["shares"])))


def _share(fields: dict[str, str | int]) -> Share:
    return Share(str(fields["name"]), *(int(fields[name]) for name in ("windows", "n_all", "passes")))


def block_side(stride: int) -> int:
    """Windows along the side of a block that `--stride-mode shared --mode reference` computes in one pass."""
    return uniform_levels(3, WINDOW, 2, stride, together=True).each[0].block


def measure_stride_costs(
    slide: Path, mpp: float | None, networks: Sequence[tuple[str, Path]], n_tiles: int = 32
) -> StrideCosts:
    """Measure reading once, and every network on the same windows.

    Parameters
    ----------
    slide, mpp
        A real slide, and its µm per level-0 pixel, if it does not say.
    networks
        Library and package of each; its level 0 is used.
    n_tiles
        Neighbouring tiles of tissue that are read.
    """
    packages = [open_package(folder, check_networks=False) for _, folder in networks]
    levels = uniform_levels(packages[0].n_levels, WINDOW, packages[0].scale_factor, STRIDES[0], together=False)
    opened = open_under(SlideInput(slide, mpp), packages[0], levels=levels)
    tiles = rule_of(opened, tissue_of(opened)[0]).reference_tiles()
    middle = len(tiles) // 2
    some = tiles_at(0, np.stack([tiles[name][middle : middle + n_tiles] for name in ("col", "row")], axis=1))
    read_s, _, regions = read_tiles(opened.pyramid, some)
    opened.pyramid.reader.close()
    found = measure_networks(networks, packages, regions)
    return StrideCosts(machine(), slide.name, read_s, found)


def measure_networks(
    networks: Sequence[tuple[str, Path]], packages: Sequence[ModelPackage], regions: RgbArray
) -> tuple[NetworkCosts, ...]:
    """Seconds of every network's windows, and of its passes where they are exact, taking turns.

    Parameters
    ----------
    networks, packages
        Library and folder of each, and what is in it.
    regions
        uint8 (n, side, side, 3), the first of which windows are cut out of.
    """
    windows = np.stack([
        regions[0, row : row + WINDOW, col : col + WINDOW]
        for row in range(0, regions.shape[1] - WINDOW + 1, STRIDES[0])
        for col in range(0, regions.shape[2] - WINDOW + 1, STRIDES[0])
    ])[:_WINDOWS]  # fmt: skip
    engines, passes = [], []
    for (library, _), package in zip(networks, packages, strict=True):
        level = package.levels[0]
        engine = load_engine(level, package, library)
        engine.use_batch_shape(settle_batch_shape(engine, package.tile_size))
        engines.append(engine)
        is_exact = library == "onnxruntime" and try_sharing(level, package).exact
        sides = [(stride, block_side(stride)) for stride in SHARED] + [(STRIDES[0], ADAPTIVE_BLOCK)]
        passes.append([(s, b, SharedEngine(level, package, s, b)) for s, b in sides] if is_exact else [])
    alone: list[list[float]] = [[] for _ in networks]
    together: list[dict[str, list[float]]] = [{} for _ in networks]
    for turn in range(REPETITIONS + 1):
        for number, engine in enumerate(engines):
            seconds: list[float] = []
            with processor_seconds(seconds):
                engine.predict(windows)
            alone[number] += seconds if turn else []  # the first warms up
            for stride, block, one in passes[number]:
                times = -(-one.region // regions.shape[1])
                pixels = np.ascontiguousarray(np.tile(regions[0], (times, times, 1))[: one.region, : one.region])
                seconds = []
                with processor_seconds(seconds):
                    one.predict(pixels)
                together[number].setdefault(f"{stride} x {block}", []).extend(seconds if turn else [])
    return tuple(
        NetworkCosts(
            f"{library} {package.name}",
            median(alone[number]) / len(windows),
            {name: median(seconds) for name, seconds in together[number].items()},
        )
        for number, ((library, _), package) in enumerate(zip(networks, packages, strict=True))
    )


def share_of(name: str, results: Sequence[Path]) -> Share:
    """What results of ``run --mode reference --stride 16 --stride-mode adaptive[-shared]`` looked at, all together.

    Raises
    ------
    SystemExit
        One of them is of another run.
    """
    windows = n_all = passes = 0
    for path in results:
        run = read_run(path)
        forest = run.work.forest
        if forest.windows is None or run.work.n_reference_tiles is None or not run.stride_mode.startswith("adaptive"):
            raise SystemExit(f"{path}: is not of a run with --stride-mode adaptive or adaptive-shared")
        finest = forest.level == 0
        by_pass = run.stride_mode == "adaptive-shared"
        windows += round(float(forest.windows[~finest].sum() if by_pass else forest.windows.sum()))
        passes += int((forest.windows[finest] > 0).sum()) * ADAPTIVE_BLOCK**2 if by_pass else 0
        n_all += run.work.n_reference_tiles
    return Share(name, windows, n_all, passes)
