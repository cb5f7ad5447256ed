"""The loss of one block, and what an image's blocks say of it together."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.training.exact.loop import NO_NUMBERS
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.whole.blocks import Box, ImageBlocks
from pyramidai_mpi.training.whole.images import CELL

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import nn

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.whole.field import Field
    from pyramidai_mpi.training.whole.images import Image

BITS = 24
"""Losses and gradients are sums over pixels, up to 2**38 of them: rounded to so many bits, 6e-8 of a pixel's worth."""


class ImageStep:
    """A network on one image, or on a part of one that is taken for an image of its own.

    Parameters
    ----------
    network
        See `field.field_of`.
    field
        How it can be cut.
    block
        Width and height of a block; multiples of the total stride.
    image
        What it is shown.
    part
        Where the layers see the image end; None for all of it.
    """

    def __init__(
        self, network: nn.Module, field: Field, block: tuple[int, int], image: Image, part: Box | None = None
    ) -> None:
        self.image, self.part = image, part or Box(0, 0, *image.size)
        self.blocks = ImageBlocks((self.part.width, self.part.height), block, field.total_stride, field.halo)
        self._network = network
        self._dtype = next(network.parameters()).dtype

    def logits(self, number: int) -> torch.Tensor:
        """Of a block's own pixels, (1, 1, h, w)."""
        blocks = self.blocks
        own, computed, seen = blocks.own(number), blocks.computed(number), blocks.seen(number)
        there = seen.grown(0, blocks.size)  # beyond it the image is filled up with glass
        dark = np.zeros((seen.height, seen.width), np.uint8)
        dark[: there.height, : there.width] = self.image.darkness(there.shifted(self.part.left, self.part.top))
        pixels = torch.from_numpy(dark).to(self._dtype).mul_(1 / 255)[None, None]
        frugal = getattr(self._network, "logits_of_block", None)
        if frugal is not None:
            found: torch.Tensor = frugal(pixels, seen, computed, blocks.padded)
        else:
            place = computed.shifted(-seen.left, -seen.top)
            found = self._network(pixels)[:, :, place.top : place.bottom, place.left : place.right]
        return found[:, :, : own.height, : own.width]

    def labels(self, number: int) -> npt.NDArray[np.bool_]:
        """Of a block's own pixels, bool (h, w)."""
        return self.image.labels(self.blocks.own(number).shifted(self.part.left, self.part.top))

    def loss(self, number: int) -> tuple[torch.Tensor, float]:
        """Binary cross-entropy summed over a block's own pixels, and how many they are."""
        truth = torch.from_numpy(self.labels(number)).to(self._dtype)[None, None]
        # of the sum, not the mean: gradients of about 1 to 1e6, far from the smallest numbers
        loss = F.binary_cross_entropy_with_logits(self.logits(number), truth, reduction="sum")
        return loss, float(self.blocks.own(number).size)

    def counts(self, number: int) -> npt.NDArray[np.int64]:
        """Of a block's own pixels: found and marked, found, marked.

        Raises
        ------
        InputError
            The network gives NaN, which would count as not found.
        """
        with torch.no_grad():
            logits = self.logits(number)[0, 0].numpy()
        if np.isnan(logits).any():
            raise InputError(f"{self.image.name}: what the network says of it are {NO_NUMBERS}")
        found = logits >= 0
        marked = self.labels(number)
        return np.array([np.count_nonzero(found & marked), np.count_nonzero(found), np.count_nonzero(marked)])


def dice_of(pool: UnitPool, steps: Sequence[ImageStep]) -> list[float]:
    """Dice's coefficient of each whole image, from exact counts of pixels: 1 where nothing is marked or found.

    Collective.
    """
    first = np.cumsum([0, *(len(step.blocks) for step in steps)])

    def counts_of(unit: int) -> npt.NDArray[np.int64]:
        whose = int(np.searchsorted(first, unit, side="right")) - 1
        return steps[whose].counts(unit - int(first[whose]))[np.newaxis]

    rows = pool.rows([1] * int(first[-1]), counts_of, np.int64, (3,)).astype(np.int64)
    sums = [rows[begin:end].sum(axis=0).tolist() for begin, end in pairwise(first)]
    return [2 * both / (found + marked) if found + marked else 1.0 for both, found, marked in sums]


def place_crop(image: Image, crop: tuple[int, int] | None, seed: int, epoch: int, step: int) -> Box:
    """The part of an image that a step is shown: of the crop's size, with something marked in it.

    Where the image is smaller than the crop, all of it; where nothing is marked, anywhere.
    """
    width, height = (min(pair) for pair in zip(image.size, crop or image.size, strict=True))
    if (width, height) == image.size:
        return Box(0, 0, width, height)
    rng = generator_of(seed, "crop", epoch, step)
    cells = np.argwhere(image.cells)
    if len(cells):
        row, column = (cells[rng.integers(len(cells))] * CELL).tolist()
        cell = Box(column, row, min(column + CELL, image.size[0]), min(row + CELL, image.size[1]))
        marked = np.argwhere(image.labels(cell))
        y, x = (marked[rng.integers(len(marked))] + (row, column)).tolist()
    else:
        x, y = (int(rng.integers(extent)) for extent in image.size)
    left = _place_around(x, width, image.size[0], rng)
    top = _place_around(y, height, image.size[1], rng)
    return Box(left, top, left + width, top + height)


def _place_around(pixel: int, side: int, extent: int, rng: np.random.Generator) -> int:
    """Where a stretch of an axis begins that holds a pixel, drawn at random."""
    return int(rng.integers(max(0, pixel - side + 1), min(pixel, extent - side) + 1))
