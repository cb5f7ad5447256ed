"""From an encoder's package in float32 to one in integers, and how alike their features are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.check import input_name
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.batch_choice import fastest_batch, speeds_by_batch
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.quantisation.graph import quantised_graph
from pyramidai_mpi.models.quantisation.speeds import alternating_speeds
from pyramidai_mpi.models.write import document_of, onnx_name, write_package
from pyramidai_mpi.store.files.placing import placed_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.engines.base import SeenTiles
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.package import ModelPackage


@dataclass(frozen=True)
class EncoderReport:
    """An encoder in one library, on tiles that were not used for calibration, beside onnxruntime in float32.

    Attributes
    ----------
    backend, precision
        The library, and what it computes in: ``int8``, or ``bfloat16`` with the weights as they were.
    tiles
        How many tiles were compared.
    worst, median
        Least and median cosine of a tile's two feature vectors.
    apart
        Median cosine of what is left of them without the mean over the tiles: of features that are much alike in all
        tiles, it is this that tells tiles apart.
    float_tiles_per_s, tiles_per_s
        Tiles per second on one thread, medians of alternating runs.
    """

    backend: str
    precision: str
    tiles: int
    worst: float
    median: float
    apart: float
    float_tiles_per_s: float
    tiles_per_s: float


@dataclass(frozen=True)
class QuantisedEncoder:
    """The graph of an encoder in integers, not yet written, how many tiles it is given at a time, how it compares."""

    graph: bytes
    batch: int
    reports: tuple[EncoderReport, ...]

    @property
    def worst(self) -> EncoderReport:
        """The least alike of the integers."""
        return min((one for one in self.reports if one.precision == "int8"), key=lambda one: one.worst)


def quantise_encoder(
    package: ModelPackage,
    calibration: SeenTiles,
    held_out: SeenTiles,
    scratch: Path,
    backends: Sequence[str] = ("onnxruntime",),
) -> QuantisedEncoder:
    """Quantise an encoder and compare it with the original; where OpenVINO can compute in bfloat16, that too.

    Parameters
    ----------
    package
        The encoder.
    calibration, held_out
        Tiles as the network sees them; none in common.
    scratch
        Folder for files that the comparison needs.
    backends
        Libraries whose integers are compared.

    Raises
    ------
    InputError
        When there are no tiles, or onnxruntime cannot quantise it.
    """
    if not (len(calibration.pixels) and len(held_out.pixels)):
        raise InputError(f"{package.folder}: too few tiles with tissue to calibrate and to compare with; more slides")
    level = package.levels[0]
    graph = quantised_graph(
        level.onnx_path, input_name(level.onnx_path), calibration, sees_position=package.sees_position
    )
    path = scratch / "encoder.onnx"
    path.write_bytes(graph)
    batch = fastest_batch(speeds_by_batch(replace(level, onnx_path=path), package))
    in_integers = replace(level, onnx_path=path, batch=batch)
    before = OnnxEngine(level, package)
    expected = _features(before, held_out)
    reports = []
    for backend in backends:
        after = load_engine(in_integers, package, backend)
        reports.append(_compare(before, after, "int8", expected, held_out))
    if "openvino" in backends:
        try:
            after = load_engine(level, package, "openvino", "bfloat16")
        except InputError:  # the processor has none
            pass
        else:
            reports.append(_compare(before, after, "bfloat16", expected, held_out))
    return QuantisedEncoder(graph, batch, tuple(reports))


def _compare(
    before: FixedBatchEngine,
    after: FixedBatchEngine,
    precision: str,
    expected: npt.NDArray[np.float32],
    tiles: SeenTiles,
) -> EncoderReport:
    found, common = _features(after, tiles), expected.mean(axis=0)
    alike, apart = cosines(expected, found), cosines(expected - common, found - common)
    return EncoderReport(
        after.backend, precision, len(alike), float(alike.min()), float(np.median(alike)), float(np.median(apart)),
        *alternating_speeds(before, after, tiles, features=True),
    )  # fmt: skip


def _features(engine: FixedBatchEngine, tiles: SeenTiles) -> npt.NDArray[np.float32]:
    _, features = engine.predict(tiles.pixels, features=True, positions=tiles.positions)
    assert features is not None
    return features


def write_quantised_encoder(package: ModelPackage, done: QuantisedEncoder, folder: Path) -> None:
    """Write a copy of a package with its network in integers, ``-int8`` in the name, and what that was seen to change.

    The entry ``quantisation`` says the least and median cosines of all libraries, and as ``max_difference`` how far the
    least is from 1.
    """
    document, worst = document_of(package), done.worst
    (entry,) = document["levels"]
    document |= {
        "name": f"{package.name}-int8",
        "quantisation": {
            "tiles": worst.tiles,
            "min_cosine": worst.worst,
            "median_cosine": min(one.median for one in done.reports if one.precision == "int8"),
            "median_cosine_apart": min(one.apart for one in done.reports if one.precision == "int8"),
            "max_difference": max(0.0, 1 - worst.worst),
        },
        "levels": [entry | {"onnx": onnx_name(0), "batch": done.batch}],
    }
    with placed_folder(folder) as partial:
        write_package(partial, document, [done.graph])
