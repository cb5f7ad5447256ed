"""What computes one block of windows: graphs, and where in what they give each window's answer is.

Made by `block_graphs.block_graphs`, which needs ONNX; whoever is handed one, say by another rank, does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

Phase = tuple[int, int]
"""Of rows and of columns, see `lattice`."""


@dataclass(frozen=True)
class RegionGraph:
    """A serialised graph of one fixed input shape.

    Attributes
    ----------
    data
        The graph.
    shape, dtype
        Of its input: NHWC bytes, or maps.
    phases
        Which phase each place in the batch of its output holds, rows before columns.
    largest_bytes
        Most bytes that a layer reads and writes: a lower bound of what it computes in.
    """

    data: bytes
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    phases: tuple[Phase, ...]
    largest_bytes: int


@dataclass(frozen=True)
class BlockGraphs:
    """The graphs of a block.

    Attributes
    ----------
    window, stride, block
        Side of a window and pixels from one to the next; windows along the side of the block.
    region, padded_region
        Side in pixels of what is read for the block, and of what the network is given.
    trunk
        What is computed for the region; None for nothing.
    head
        What is computed for each window, cut out of the trunk's maps or of the pixels; None for nothing.
    cut
        Rows and columns of the maps that are cut out for a window; None where there is no head.
    cut_from_nhwc
        Whether their order is NHWC.
    batch_of
        Place in the batch of the trunk's output that holds a window, int64 (block, block).
    place_of
        First row (or column) of a window there, int64 (block,).
    own_stride
        Stride of the network itself: below it phases are needed, above it places are left out.
    shared_layers, layers
        How many of the network's layers are computed for the region, and how many there are.
    cost
        Multiplications with additions for the block, see `plan.MOVED`.
    largest_bytes
        Most bytes that a layer reads and writes. A process was seen to grow by 2.4 to 3.3 times as much.
    """

    window: int
    stride: int
    block: int
    region: int
    padded_region: int
    trunk: RegionGraph | None
    head: RegionGraph | None
    cut: tuple[int, int] | None
    cut_from_nhwc: bool
    batch_of: npt.NDArray[np.int64]
    place_of: npt.NDArray[np.int64]
    own_stride: int
    shared_layers: int
    layers: int
    cost: int
    largest_bytes: int


def windows_of(region: RgbArray, window: int, stride: int, chosen: npt.NDArray[np.integer]) -> RgbArray:
    """The windows of some rows and the same columns of a block, uint8 (n * n, window, window, 3), row by row."""
    corners = [(int(y) * stride, int(x) * stride) for y in chosen for x in chosen]
    return np.stack([region[y : y + window, x : x + window] for y, x in corners])
