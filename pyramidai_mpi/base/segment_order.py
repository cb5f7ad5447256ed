"""What is asked of a segmentation of whole slides."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pyramidai_mpi.base.errors import UsageError

DEFAULT_BLOCK = 1024
MOST_BLOCK = 1 << 14
MOST_DOWNSAMPLE = 256
MASK_ENDING, PROBABILITY_ENDING = "_mask.tif", "_probability.tif"
"""Of files named after their slide; masks by this name are found where a folder of tissue masks is given."""


@dataclass(frozen=True)
class SegmentOrder:
    """What masks are asked for.

    Attributes
    ----------
    downsample
        Pixels of the network's along the side of one of the mask.
    block
        About how many pixels of the network's are computed at a time, along a side.
    probability
        Whether probabilities are kept beside the mask.

    Raises
    ------
    UsageError
        When a value makes no sense.
    """

    downsample: int = 1
    block: int = DEFAULT_BLOCK
    probability: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.downsample <= MOST_DOWNSAMPLE:
            raise UsageError(f"--downsample {self.downsample}: expected 1 to {MOST_DOWNSAMPLE}")
        if not 16 <= self.block <= MOST_BLOCK:
            raise UsageError(f"--block {self.block}: expected 16 to {MOST_BLOCK} pixels")

    def side(self, total_stride: int) -> int:
        """Side of a block in pixels of the network's: whole pixels of the mask, corners at multiples of the stride."""
        least = math.lcm(total_stride, self.downsample)
        return least * max(1, round(self.block / least))
