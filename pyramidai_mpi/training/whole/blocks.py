"""An image in blocks that can be computed apart from each other: each with the pixels around it that it depends on.

The halo is computed again in each block instead of exchanged between them, so blocks know nothing of each other, and
any rank may do any. Corners lie at multiples of the network's total stride, where its layers' grids begin. Where the
image ends a block ends too, and the layers pad it as they would pad the image.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """Pixels [left, right) x [top, bottom)."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.bottom - self.top

    @property
    def size(self) -> int:
        """How many pixels."""
        return self.width * self.height

    def grown(self, by: int, within: tuple[int, int]) -> Box:
        """With so many pixels more on each side, of an image of this width and height."""
        return Box(
            max(0, self.left - by),
            max(0, self.top - by),
            min(within[0], self.right + by),
            min(within[1], self.bottom + by),
        )

    def shifted(self, left: int, top: int) -> Box:
        """So far to the right and down."""
        return Box(self.left + left, self.top + top, self.right + left, self.bottom + top)


@dataclass(frozen=True)
class ImageBlocks:
    """The blocks of an image, row by row.

    Parameters
    ----------
    size
        Width and height of the image.
    block
        Width and height of a block; the last ones of a row or column may be smaller. Multiples of the total stride.
    total_stride
        Of the network.
    halo
        Pixels around a block that it depends on at most, a multiple of the total stride.

    Raises
    ------
    ValueError
        One is no multiple of the stride.
    """

    size: tuple[int, int]
    block: tuple[int, int]
    total_stride: int
    halo: int

    def __post_init__(self) -> None:
        if any(side < 1 or side % self.total_stride for side in self.block) or self.halo % self.total_stride:
            raise ValueError(f"blocks of {self.block} with a halo of {self.halo} at a stride of {self.total_stride}")

    @property
    def padded(self) -> tuple[int, int]:
        """Width and height filled up to multiples of the total stride: the image that the network sees."""
        width, height = (-(-side // self.total_stride) * self.total_stride for side in self.size)
        return width, height

    @property
    def shape(self) -> tuple[int, int]:
        """Columns and rows of blocks."""
        columns, rows = (-(-side // block) for side, block in zip(self.size, self.block, strict=True))
        return columns, rows

    def __len__(self) -> int:
        return self.shape[0] * self.shape[1]

    def own(self, number: int) -> Box:
        """What a block gives: pixels of the image."""
        row, column = divmod(number, self.shape[0])
        left, top = column * self.block[0], row * self.block[1]
        return Box(left, top, min(left + self.block[0], self.size[0]), min(top + self.block[1], self.size[1]))

    def computed(self, number: int) -> Box:
        """The same as the network gives it: to multiples of the total stride."""
        own, stride = self.own(number), self.total_stride
        return Box(own.left, own.top, -(-own.right // stride) * stride, -(-own.bottom // stride) * stride)

    def seen(self, number: int) -> Box:
        """What the network has to be shown for it: pixels of the padded image."""
        return self.computed(number).grown(self.halo, self.padded)
