"""What one core pays for a tile, a slide and a file: measured by processor time, kept as JSON.

Used by `bench.scale.scaling`. One process, one thread, pages of the slide cached. Tiles are all descendants of some
runs of neighbouring roots, read root by root as a rank of a cohort works through its queue; stored tiles at the rims of
a run are decoded, and their bytes counted, for this run alone.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import tempfile
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.speed.exports import made_result, write_result
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.models.stain.engine import StainEngine
from pyramidai_mpi.models.stain.graph import stain_graph
from pyramidai_mpi.models.stain.map import MacenkoTarget
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.opening import open_under, rule_of, tissue_of
from pyramidai_mpi.run.stain import estimate_stain
from pyramidai_mpi.slides.readers.trial import try_opening

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.types import RgbArray, TileArray
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.pyramid.rule import TileRule
    from pyramidai_mpi.slides.pyramid import SlidePyramid

SCHEDULER_SHARE = 0.03
"""Of a computing rank's core, beside its tiles: 2.4 to 3.6 % by `bench.balance.sched_cost`."""
BATCH_SIZE = 16
REPETITIONS = 3
RUN = 8
"""Neighbouring roots that are read one after the other."""


@dataclass(frozen=True)
class EngineCosts:
    """One model behind one library.

    Attributes
    ----------
    name
        Library and model.
    random_weights
        The model's answers mean nothing.
    stains
        The model asks for stain normalisation.
    infer_s
        Seconds a tile, level 0 first.
    loading_s
        Seconds to load the networks of all levels and settle the batch.
    model_bytes
        Of all networks.
    """

    name: str
    random_weights: bool
    stains: bool
    infer_s: tuple[float, ...]
    loading_s: float
    model_bytes: int


@dataclass(frozen=True)
class SlideCosts:
    """What does not depend on the network.

    Attributes
    ----------
    machine, slide
        Where and on what it was measured.
    read_s, read_bytes
        Seconds and bytes of the file a tile, level 0 first.
    stain_s
        Seconds a tile, Macenko.
    opening_s, reopening_s
        Seconds to open a slide for the first time, its trial included, and on another rank later.
    tissue_s_per_gigapixel
        Seconds to find the tissue over the slide's size at level 0.
    writing_s
        Seconds a tile to write a result.
    scheduler_share
        Time of the scheduler over that of tiles.
    """

    machine: str
    slide: str
    read_s: tuple[float, ...]
    read_bytes: tuple[float, ...]
    stain_s: float
    opening_s: float
    reopening_s: float
    tissue_s_per_gigapixel: float
    writing_s: float
    scheduler_share: float = SCHEDULER_SHARE

    def first_opening_s(self, gigapixels: float) -> float:
        """Seconds from the file to the list of roots, for a slide of this size."""
        return self.opening_s + gigapixels * self.tissue_s_per_gigapixel


@dataclass(frozen=True)
class MeasuredCosts:
    """Everything measured in one run."""

    slide: SlideCosts
    engines: tuple[EngineCosts, ...]

    def tile_s(self, engine: EngineCosts) -> tuple[float, ...]:
        """Seconds of reading, staining and classifying a tile, level 0 first."""
        stain_s = self.slide.stain_s if engine.stains else 0.0
        return tuple(read + stain_s + infer for read, infer in zip(self.slide.read_s, engine.infer_s, strict=True))

    def save(self, path: Path) -> None:
        """Write them as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> MeasuredCosts:
        """Read what `save` wrote."""
        if not path.is_file():
            raise SystemExit(f"no costs at {path}: measure them with --measure SLIDE --engine LIBRARY:MODEL")
        found = json.loads(path.read_text())
        engines = tuple(EngineCosts(**_with_tuples(engine)) for engine in found["engines"])
        return cls(SlideCosts(**_with_tuples(found["slide"])), engines)


def _with_tuples(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def measure_costs(
    slide: Path, engines: Sequence[tuple[str, Path]], mpp: float | None, roots: int, written_roots: int = 196
) -> MeasuredCosts:
    """Measure reading, opening and writing once, and each engine on the same tiles.

    Parameters
    ----------
    slide
        A real one.
    engines
        Library and model of each.
    mpp
        um per pixel of the slide; None takes what it says.
    roots
        Roots whose tiles are read and classified.
    written_roots
        Roots of the result that is written, 341 tiles each: by default a slide's worth.

    Raises
    ------
    PyramidError
        The slide or a model cannot be used.
    """
    packages = [open_package(folder, check_networks=False) for _, folder in engines]
    opened = _measure_opening(SlideInput(slide, mpp), packages[0])
    pyramid, rule = opened.slide.pyramid, opened.rule
    tiles = families(rule, roots, packages[0].n_levels)
    read_s, read_bytes, pixels = zip(*(read_tiles(pyramid, level_tiles) for level_tiles in tiles), strict=True)
    stained = estimate_stain(opened.slide, rule, replace(packages[0], stain_target=MacenkoTarget())).stain
    assert stained is not None  # there are roots
    normalise = StainEngine(stain_graph(mixes_channels=stained.mixes_channels)).normaliser(stained)
    seconds: list[float] = []
    for _ in range(REPETITIONS):
        with processor_seconds(seconds):
            for tile in pixels[0]:
                normalise(tile)
    pyramid.reader.close()
    return MeasuredCosts(
        SlideCosts(
            machine=machine(),
            slide=slide.name,
            read_s=read_s,
            read_bytes=read_bytes,
            stain_s=median(seconds) / len(pixels[0]),
            opening_s=opened.opening_s,
            reopening_s=opened.reopening_s,
            tissue_s_per_gigapixel=opened.tissue_s / (np.prod(pyramid.reader.info.l0_size, dtype=float) / 1e9),
            writing_s=_measure_writing(written_roots),
        ),
        tuple(
            _measure_engine(library, package, pixels) for (library, _), package in zip(engines, packages, strict=True)
        ),
    )


@dataclass(frozen=True)
class _Opened:
    slide: OpenSlide
    rule: TileRule
    opening_s: float
    reopening_s: float
    tissue_s: float


def _measure_opening(source: SlideInput, package: ModelPackage) -> _Opened:
    opening: list[float] = []
    reopening: list[float] = []
    tissue: list[float] = []
    for _ in range(REPETITIONS):
        with processor_seconds(opening):
            with try_opening(source.path, source.reader) as trial:
                trial.check()
            slide = open_under(source, package)
        with processor_seconds(tissue):
            rule = rule_of(slide, tissue_of(slide)[0])
        slide.pyramid.reader.close()
        with processor_seconds(reopening):
            slide = open_under(source, package)
    return _Opened(slide, rule, median(opening), median(reopening), median(tissue))


def families(rule: TileRule, roots: int, n_levels: int) -> list[TileArray]:
    """Some runs of roots and all below them: tiles of each level, level 0 first, root by root."""
    found = rule.roots()
    runs = np.random.default_rng(0).permutation(-(-len(found) // RUN))[: max(1, roots // RUN)]
    tiles = [np.concatenate([found[run * RUN : (run + 1) * RUN] for run in runs.tolist()])]
    for _ in range(n_levels - 1):
        tiles.append(np.concatenate([rule.children(tiles[-1][k : k + 1]) for k in range(len(tiles[-1]))]))
    return tiles[::-1]


def read_tiles(pyramid: SlidePyramid, tiles: TileArray) -> tuple[float, float, RgbArray]:
    """Seconds and bytes of the file a tile, and the pixels."""
    seconds: list[float] = []
    before = _bytes_read()
    with processor_seconds(seconds):
        pixels = np.stack([pyramid.read_tile(*(int(tile[name]) for name in ("level", "col", "row"))) for tile in tiles])
    return seconds[0] / len(tiles), (_bytes_read() - before) / len(tiles), pixels


def _measure_engine(library: str, package: ModelPackage, pixels: Sequence[RgbArray]) -> EngineCosts:
    loading: list[float] = []
    infer_s = []
    with processor_seconds(loading):
        engines = [load_engine(level, package, library) for level in package.levels]
        for engine in engines:
            engine.use_batch_shape(settle_batch_shape(engine, package.tile_size))
    for engine, here in zip(engines, pixels, strict=True):
        engine.predict(here[: engine.batch_shape])  # warm
        seconds: list[float] = []
        for _ in range(REPETITIONS):
            with processor_seconds(seconds):
                for first in range(0, len(here), BATCH_SIZE):
                    engine.predict(here[first : first + BATCH_SIZE])
        infer_s.append(median(seconds) / len(here))
    return EngineCosts(
        name=f"{library} {package.name}",
        random_weights=package.random_weights,
        stains=package.stain_target is not None,
        infer_s=tuple(infer_s),
        loading_s=loading[0],
        model_bytes=sum(level.onnx_path.stat().st_size for level in package.levels),
    )


def _measure_writing(roots: int) -> float:
    result = made_result(roots, 1)
    seconds: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for n in range(REPETITIONS):
            with processor_seconds(seconds):
                write_result(Path(folder) / f"{n}.h5", result)
    return median(seconds) / result.tree.n_tiles


@contextmanager
def processor_seconds(seconds: list[float]) -> Iterator[None]:
    """Append the processor time of this process and its finished children meanwhile."""
    before = _processor()
    yield
    seconds.append(_processor() - before)


def _processor() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _bytes_read() -> int:
    """Bytes that this process has asked of files so far (Linux)."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar")))


def machine() -> str:
    """The processor, and how many of them."""
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = models[0].split(":")[1].strip() if models else platform.machine()
    return f"{name}, {os.cpu_count()} processors"
