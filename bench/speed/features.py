"""Writing feature vectors: rank 0 alone against all ranks through MPI-IO, in one run.

    mpirun -n 4 python -m bench.speed.features [--size 12000] [--width 2048] [--json FILE]

Needs an h5py that was built with MPI (`.ci/parallel_hdf5` builds one). A slide of tissue is generated and analysed
exhaustively in small tiles by a plain network with long feature vectors; then its result is written three times by each
writer, in turn. Seconds are of the writing alone, from the gathered tree to the file in its place; memory is the growth
of a rank's resident set during it, rank 0's and the largest of the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.cli.launcher import prepare_environment

prepare_environment()

import numpy as np  # noqa: E402 - reads the environment when it is loaded
import tifffile  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from bench.figures import Figure, report  # noqa: E402
from pyramidai_mpi.base.settings import RunSettings  # noqa: E402
from pyramidai_mpi.base.types import Mode  # noqa: E402
from pyramidai_mpi.cli.session import mpi_session  # noqa: E402
from pyramidai_mpi.models.write import PackageText, write_package  # noqa: E402
from pyramidai_mpi.ranks.collectives import allgather, share_bytes  # noqa: E402
from pyramidai_mpi.run import single as pipeline  # noqa: E402
from pyramidai_mpi.run.write import write_result  # noqa: E402

if TYPE_CHECKING:
    from mpi4py import MPI

REPETITIONS = 3
TILE = 64


def write_slide(path: Path, size: int) -> None:
    """A plain slide that is tissue all over."""
    rng = np.random.default_rng(0)
    pixels = np.empty((size, size, 3), np.uint8)
    pixels[...] = (170, 100, 180)
    pixels[::8, ::8] -= rng.integers(0, 60, pixels[::8, ::8].shape, np.uint8)
    tifffile.imwrite(
        path, pixels, tile=(512, 512), photometric="rgb", compression="jpeg", resolution=(4e4, 4e4),
        resolutionunit="CENTIMETER",
    )  # fmt: skip


def write_model(folder: Path, width: int) -> None:
    """Mean colour, spread over `width` features, softmax of two of them."""
    rng = np.random.default_rng(0)
    weights = rng.normal(0, 0.01, (3, width)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["features"]),
        helper.make_node("Slice", ["features", "starts", "ends", "axes"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    constants = {"weights": weights, "starts": np.array([0]), "ends": np.array([2]), "axes": np.array([1])}
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", TILE, TILE, 3])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", width]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    text = PackageText("features", tile_size=TILE)
    write_package(folder, text.document(3), [model.SerializeToString()] * 3)


def memory_mb(field: str) -> float:
    """VmHWM (peak since the last reset) or VmRSS of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"no {field} in /proc/self/status")


def timed_writing(comm: MPI.Intracomm, result: Any, output: Path, options: dict[str, Any]) -> tuple[float, list[float]]:
    """Seconds, and growth of each rank's resident set in MB."""
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory_mb("VmRSS")
    allgather(comm, np.zeros(1))
    started = time.perf_counter()
    write_result(comm, result, output, **options)
    seconds = time.perf_counter() - started
    growth = allgather(comm, np.array([1024 * (memory_mb("VmHWM") - before)]))[:, 0] / 1024
    return seconds, growth.tolist()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=12000, help="side of the slide in pixels")
    parser.add_argument("--width", type=int, default=2048, help="length of a feature vector")
    parser.add_argument("--json", type=Path, default=None)
    arguments = parser.parse_args()
    seconds: dict[bool, list[float]] = {False: [], True: []}
    growth: dict[bool, list[list[float]]] = {False: [], True: []}

    def write_by_turns(comm: MPI.Intracomm, result: Any, output: Path, **options: Any) -> None:
        for _ in range(REPETITIONS):
            for parallel in (False, True):
                taken, grown = timed_writing(comm, result, output, options | {"parallel": parallel, "overwrite": True})
                seconds[parallel].append(taken)
                growth[parallel].append(grown)

    with mpi_session() as comm, tempfile.TemporaryDirectory() as own:
        folder = Path(share_bytes(comm, own.encode() if comm.rank == 0 else None).decode())
        if comm.rank == 0:
            write_slide(folder / "slide.tif", arguments.size)
            write_model(folder, arguments.width)
        allgather(comm, np.zeros(1))
        settings = RunSettings.of(
            slide=folder / "slide.tif",
            model=folder,
            output=folder / "out.h5",
            mode=Mode.EXHAUSTIVE,
            features=True,
            writer="mpio",
        )
        pipeline.write_result = write_by_turns  # type: ignore[assignment]
        finished = pipeline.run_slide(comm, settings)
        if finished is not None:
            n_tiles = finished.result.tree.n_tiles
            megabytes = n_tiles * arguments.width * 4 / 2**20
            setting = {"ranks": comm.size, "tiles": n_tiles, "features_mb": round(megabytes)}
            figures = []
            for parallel, name in ((False, "rank 0 alone"), (True, "all ranks, mpio")):
                figures += [
                    Figure(f"writing, {name}", median(seconds[parallel]), "s", setting),
                    Figure(f"memory of rank 0, {name}", median(g[0] for g in growth[parallel]), "MB", setting),
                    Figure(
                        f"memory of another rank, {name}", median(max(g[1:]) for g in growth[parallel]), "MB", setting
                    ),
                ]
            report(figures, arguments.json)
        allgather(comm, np.zeros(1))


if __name__ == "__main__":
    main()
