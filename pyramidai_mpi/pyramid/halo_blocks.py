"""An image cut into blocks for a network without global layers: what is computed block by block is what one pass gives.

A value of the network's output depends on the input within its *halo* alone, and maps below its input are made at
multiples of its *total stride*. So a block is computed on itself grown by the halo, corners at multiples of that
stride, and its own part is kept. Where the image ends, a grown block ends with it: the network then pads there with
what it pads the whole image with. Every block has a shape that follows from the image alone, and so have its bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Box(NamedTuple):
    """A rectangle of pixels, `right` and `bottom` excluded."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top

    def within(self, other: Box) -> tuple[slice, slice]:
        """Rows and columns of this box in an array of what `other` holds."""
        return (
            slice(self.top - other.top, self.bottom - other.top),
            slice(self.left - other.left, self.right - other.left),
        )


@dataclass(frozen=True)
class HaloBlocks:
    """The blocks of an image.

    Parameters
    ----------
    size
        Width and height of the image in pixels.
    side
        Of a block, a multiple of `stride`.
    halo
        Pixels around a block that its values depend on.
    stride
        The network's total stride.

    Raises
    ------
    ValueError
        When the side is no multiple of the stride, or a number makes no sense.
    """

    size: tuple[int, int]
    side: int
    halo: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.stride < 1 or self.halo < 0 or self.side < 1 or self.side % self.stride:
            raise ValueError(f"no blocks of {self.side} px with a halo of {self.halo} at a stride of {self.stride}")

    @property
    def padded(self) -> tuple[int, int]:
        """Width and height of the image that the network sees: whole multiples of the stride."""
        width, height = (-(-extent // self.stride) * self.stride for extent in self.size)
        return width, height

    @property
    def grown_by(self) -> int:
        """Pixels on each side of a block that are read with it: the halo as a multiple of the stride."""
        return -(-self.halo // self.stride) * self.stride

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and rows of blocks."""
        columns, rows = (-(-extent // self.side) for extent in self.size)
        return columns, rows

    def own(self, col: int, row: int) -> Box:
        """What a block gives: its part of the image."""
        left, top = col * self.side, row * self.side
        return Box(left, top, min(left + self.side, self.size[0]), min(top + self.side, self.size[1]))

    def seen(self, col: int, row: int) -> Box:
        """What the network is shown for a block: within the padded image."""
        left, top, more = col * self.side, row * self.side, self.grown_by
        width, height = self.padded
        return Box(
            max(left - more, 0),
            max(top - more, 0),
            min(left + self.side + more, width),
            min(top + self.side + more, height),
        )
