"""A block of windows by one pass: the engine of the ``shared`` way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, InternalError
from pyramidai_mpi.models.engines.onnx_engine import open_session

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.dense.block import BlockGraphs, RegionGraph
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage


class SharedEngine:
    """The probabilities of all windows of a block, on one CPU thread that never spins.

    What lies before the network's head is computed once for the whole region, by the cheapest plan (see `plan`). The
    graphs have one input shape each, so a region has the same bits always; the bits differ from those of another block
    size, and from those of windows by themselves, by rounding.

    Exact only for networks that pad no maps; whether a package's do, `sharing.sharing_of` finds out, and a run that is
    allowed others measures how much that changes (`run.shared_passes.error_in`).

    Parameters
    ----------
    level, package
        The network.
    stride
        Pixels of the level from one window to the next.
    block
        Windows along the side of the block.
    graphs
        Those of another engine of the same network, stride and block, say of another rank: they take some time to make.

    Attributes
    ----------
    graphs
        What it runs; its cost, own stride, memory and the like stand there.

    Raises
    ------
    UnsharableError
        When the network cannot be computed for many windows at once; it is an `InputError`.
    InputError
        When onnxruntime cannot load it.
    """

    backend = "onnxruntime"

    def __init__(
        self,
        level: ModelLevel,
        package: ModelPackage,
        stride: int,
        block: int,
        *,
        graphs: BlockGraphs | None = None,
    ) -> None:
        if graphs is None:
            # onnx takes 0.4 s and 56 MB, which whoever is given graphs saves
            from pyramidai_mpi.models.dense.block_graphs import block_graphs

            graphs = block_graphs(level, package, stride, block)
        self.graphs = graphs
        self._trunk = None if graphs.trunk is None else _Session(graphs.trunk, level.onnx_path)
        self._head = None if graphs.head is None else _Session(graphs.head, level.onnx_path)
        self._pixels = np.zeros((1, graphs.padded_region, graphs.padded_region, 3), np.uint8)

    @property
    def cost(self) -> int:
        """Multiplications with additions for one block."""
        return self.graphs.cost

    @property
    def region(self) -> int:
        """Side in pixels of what `predict` takes."""
        return self.graphs.region

    def predict(self, region: RgbArray) -> npt.NDArray[np.float32]:
        """Class probabilities float32 (B, B, C) of the windows in a region, uint8 (R, R, 3).

        Row i, column j is the window whose top-left corner is the region's pixel (j * stride, i * stride).

        Raises
        ------
        InputError
            When onnxruntime cannot run the network.
        """
        side = self.region
        if region.shape != (side, side, 3) or region.dtype != np.uint8:
            raise InternalError(f"a region of {region.shape} {region.dtype}, expected {(side, side, 3)} uint8")
        self._pixels[0, :side, :side] = region
        maps = self._pixels if self._trunk is None else self._trunk.run(self._pixels)
        if self._head is not None:
            return self._by_window(maps, self._head)
        place = self.graphs.place_of
        found = maps[self.graphs.batch_of, :, place[:, None], place[None, :]]
        return np.ascontiguousarray(found, np.float32)

    def _by_window(self, maps: npt.NDArray[np.generic], head: _Session) -> npt.NDArray[np.float32]:
        graphs, count = self.graphs, self.graphs.block**2
        assert graphs.cut is not None
        rows, columns = graphs.cut
        batch = np.zeros(head.shape, head.dtype)
        answers = []
        for first in range(0, count, len(batch)):
            here = range(first, min(first + len(batch), count))
            batch[len(here) :] = 0
            for n, window in enumerate(here):
                row, column = divmod(window, graphs.block)
                top, left = graphs.place_of[row], graphs.place_of[column]
                where = slice(top, top + rows), slice(left, left + columns)
                whole = maps[graphs.batch_of[row, column]]
                batch[n] = whole[where] if graphs.cut_from_nhwc else whole[(slice(None), *where)]
            answers.append(head.run(batch)[: len(here), :, 0, 0])
        return np.ascontiguousarray(np.concatenate(answers).reshape(graphs.block, graphs.block, -1), np.float32)


class _Session:
    def __init__(self, graph: RegionGraph, path: Path) -> None:
        self.shape, self.dtype, self._path = graph.shape, graph.dtype, path
        try:
            self._session = open_session(graph.data)
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise self._failed("load", error) from error
        self._input = self._session.get_inputs()[0].name

    def run(self, maps: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        try:
            (found,) = self._session.run(None, {self._input: maps})
        except Exception as error:  # as above
            raise self._failed("run", error) from error
        return np.asarray(found)

    def _failed(self, what: str, error: Exception) -> InputError:
        reason = " ".join(str(error).split())[:300]
        return InputError(f"{self._path}: onnxruntime cannot {what} its network for many windows: {reason}")
