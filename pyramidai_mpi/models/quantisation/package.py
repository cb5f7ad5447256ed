"""From a model package in float32 to one in integers, and what that costs and gains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.check import input_name
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.quantisation.graph import quantised_graph
from pyramidai_mpi.models.quantisation.speeds import alternating_speeds
from pyramidai_mpi.models.write import document_of, onnx_name, write_package
from pyramidai_mpi.pyramid.decision import passes
from pyramidai_mpi.store.files.placing import placed_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.engines.base import SeenTiles
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage


@dataclass(frozen=True)
class LevelReport:
    """One level in one library, on tiles that were not used for calibration, beside onnxruntime in float32.

    Attributes
    ----------
    level, backend, tiles
        The level, the library that computes with integers, and how many tiles were compared.
    float_tiles_per_s, int8_tiles_per_s
        Tiles per second on one thread, medians of alternating runs; NaN without tiles.
    max_difference, mean_difference
        The greatest and the mean difference of the positive class' probability.
    changed
        Number of tiles whose decision differs.
    float_positives, kept_positives
        Number of tiles positive in float32, and of those among them that are positive in integers.
    """

    level: int
    backend: str
    tiles: int
    float_tiles_per_s: float
    int8_tiles_per_s: float
    max_difference: float
    mean_difference: float
    changed: int
    float_positives: int
    kept_positives: int


@dataclass(frozen=True)
class QuantisationReport:
    """All levels in all libraries."""

    levels: tuple[LevelReport, ...]

    def changed_share(self, backend: str) -> float:
        """Share of all compared tiles whose decision differs in this library."""
        levels = [level for level in self.levels if level.backend == backend]
        tiles = sum(level.tiles for level in levels)
        return sum(level.changed for level in levels) / tiles if tiles else float("nan")

    @property
    def worst(self) -> tuple[float, str]:
        """The largest such share, and the library that has it."""
        return max((self.changed_share(level.backend), level.backend) for level in self.levels)


@dataclass(frozen=True)
class QuantisedPackage:
    """Graphs of a package in integers, level 0 first, not yet written, and how they compare."""

    graphs: tuple[bytes, ...]
    report: QuantisationReport


def quantise(
    package: ModelPackage,
    calibration: Sequence[SeenTiles],
    held_out: Sequence[SeenTiles],
    scratch: Path,
    backends: Sequence[str] = ("onnxruntime",),
) -> QuantisedPackage:
    """Quantise every level of a package and compare it with the original.

    Parameters
    ----------
    package
        The package; its networks take uint8 NHWC.
    calibration, held_out
        Tiles of each level, level 0 first, as the networks see them; none in common.
    scratch
        Folder for files that the comparison needs.
    backends
        Libraries whose integers are compared.

    Raises
    ------
    InputError
        When the package takes floats, a level has no tiles to calibrate with, or onnxruntime cannot quantise it.
    """
    if package.float_input is not None:
        raise InputError(f"{package.folder}: its networks take floats; only uint8 NHWC packages can be quantised")
    graphs, reports = [], []
    for level, tiles, others in zip(package.levels, calibration, held_out, strict=True):
        if not len(tiles.pixels):
            raise InputError(f"{package.folder}: no tissue tile of level {level.level} to calibrate with; more slides")
        graph = quantised_graph(
            level.onnx_path, input_name(level.onnx_path), tiles, sees_position=package.sees_position
        )
        path = scratch / f"level{level.level}.onnx"
        path.write_bytes(graph)
        graphs.append(graph)
        before = OnnxEngine(level, package)
        for backend in backends:
            after = load_engine(replace(level, onnx_path=path), package, backend)
            reports.append(_compare(level, package.score_column, before, after, others))
    return QuantisedPackage(tuple(graphs), QuantisationReport(tuple(reports)))


def _compare(
    level: ModelLevel, column: int, before: FixedBatchEngine, after: FixedBatchEngine, tiles: SeenTiles
) -> LevelReport:
    old, new = _scores(before, tiles, column), _scores(after, tiles, column)
    was, is_now = passes(old, level.threshold), passes(new, level.threshold)
    difference = np.abs(old - new)
    count = len(tiles.pixels)
    float_speed, int8_speed = alternating_speeds(before, after, tiles)
    return LevelReport(
        level=level.level,
        backend=after.backend,
        tiles=count,
        float_tiles_per_s=float_speed,
        int8_tiles_per_s=int8_speed,
        max_difference=float(difference.max(initial=0)),
        mean_difference=float(difference.mean()) if count else float("nan"),
        changed=int((was != is_now).sum()),
        float_positives=int(was.sum()),
        kept_positives=int((was & is_now).sum()),
    )


def _scores(engine: FixedBatchEngine, tiles: SeenTiles, column: int) -> npt.NDArray[np.float64]:
    return engine.predict(tiles.pixels, positions=tiles.positions)[0][:, column].astype(np.float64)


def write_quantised(package: ModelPackage, done: QuantisedPackage, folder: Path) -> None:
    """Write a copy of a package with its networks in integers; thresholds and all else stay, the name gains ``-int8``.

    What onnxruntime was seen to change goes along (``quantisation``).
    """
    document = document_of(package)
    document["name"] = f"{package.name}-int8"
    seen = [level for level in done.report.levels if level.backend == "onnxruntime"]
    document["quantisation"] = {
        "tiles": sum(level.tiles for level in seen),
        "max_difference": max(level.max_difference for level in seen),
        "changed": sum(level.changed for level in seen),
    }
    entries = sorted(document["levels"], key=lambda entry: int(entry["level"]))
    document["levels"] = [entry | {"onnx": onnx_name(entry["level"])} for entry in entries]
    aggregator = None if package.aggregator is None else package.aggregator.onnx_path  # stays in floats
    with placed_folder(folder) as partial:
        write_package(partial, document, done.graphs, aggregator)
