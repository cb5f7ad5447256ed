"""Where the windows of a block lie in the maps of its region: pure geometry.

Windows lie `stride` pixels apart, places of maps `step`. Where the step divides the stride, all windows find their
places in one set of maps. Where it does not, a window between two places needs maps of its own kind: *phases*, the
same maps computed from another first pixel. A layer of stride 2 has four, two along each axis, and each is a quarter
of the size, so all together cost what one costs that leaves out nothing. They are taken where they come apart, before
the layer whose stride is too wide, so that all layers before it are computed once.

Phases and windows are counted in units: the largest number of pixels that divides the stride and fits the network's
steps. Window i of a row lies at ``i * stride`` pixels, that is at ``i * stride // unit`` units; in maps with m phases
along an axis it is in phase ``units % m``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from pyramidai_mpi.models.dense.layers import Sides


@dataclass(frozen=True)
class Lattice:
    """The windows of one block along an axis, the same along the other.

    Attributes
    ----------
    window
        Side of a window in pixels.
    stride
        Pixels from one window to the next.
    block
        Windows along the side of the block.
    own
        Pixels from one window to the next where the network's head begins.
    unit
        See above.
    """

    window: int
    stride: int
    block: int
    own: int
    unit: int

    @classmethod
    def of(cls, window: int, stride: int, block: int, steps: Iterable[int]) -> Lattice:
        """The windows of a block for a network whose maps have these steps.

        A unit fits a step that it divides or is a multiple of. For steps that are powers of two that is the largest
        common divisor of stride and the network's own stride.
        """
        known = sorted(set(steps))
        own = known[-1]
        if block == 1:
            return cls(window, own, 1, own, own)  # a single window: nothing to share, no phases
        common = math.gcd(stride, own)
        fitting = (unit for unit in range(common, 0, -1) if common % unit == 0 and _fits(unit, known))
        return cls(window, stride, block, own, next(fitting))

    @property
    def region(self) -> int:
        """Side in pixels of what is read for the block."""
        return (self.block - 1) * self.stride + self.window

    @property
    def places(self) -> int:
        """Units from the first window to behind the last, a whole number of phases; the last may lie in no window."""
        phases = self.phases(self.own)
        units = (self.block - 1) * (self.stride // self.unit) + 1
        return -(-units // phases) * phases

    @property
    def padded_region(self) -> int:
        """Side in pixels of what the network is given: the region, and what makes the phases of one size."""
        return (self.places - 1) * self.unit + self.window

    @property
    def gap(self) -> int:
        """Places from one window to the next where windows lie wider than the head's places and there are no phases.

        The head then takes every such place alone. 1 otherwise.
        """
        return self.stride // self.own if self.stride % self.own == 0 else 1

    def phases(self, step: int) -> int:
        """Phases along an axis of maps of this step."""
        return max(1, step // self.unit)

    def spread(self, step: int) -> int:
        """Places of the maps of one phase from one unit of it to the next."""
        return max(1, self.unit // step)

    def sides(self, step: int, sides: Sides) -> Sides:
        """Rows and columns of the maps of one phase over the whole region, from those of a window."""
        extra = (self.places // self.phases(step) - 1) * self.spread(step)
        return sides[0] + extra, sides[1] + extra

    def found(self, step: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Of each window of a row its phase and its first place in the maps of that phase, int64 (block,) each."""
        units = np.arange(self.block, dtype=np.int64) * (self.stride // self.unit)
        phases = self.phases(step)
        return units % phases, units // phases * self.spread(step)


def _fits(unit: int, steps: list[int]) -> bool:
    return all(step % unit == 0 or unit % step == 0 for step in steps)
