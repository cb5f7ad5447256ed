"""Images to train on: how dark each pixel is and whether it is marked, any part at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.base.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.training.whole.blocks import Box

CELL = 256
"""Side in pixels of the cells of which it is known whether anything in them is marked."""
GREY_WEIGHTS = (77, 150, 29)
"""Of red, green and blue in 1/256: luma as video has it (ITU-R BT.601)."""


def darkness_of(rgb: RgbArray) -> npt.NDArray[np.uint8]:
    """255 minus the grey value, uint8 (h, w): glass is about 0, and exactly 0 where white is filled in."""
    grey = np.full(rgb.shape[:2], 128, np.uint32)
    for channel, weight in enumerate(GREY_WEIGHTS):
        grey += rgb[..., channel] * np.uint32(weight)
    return np.asarray(255 - (grey >> 8), np.uint8)


class Image(Protocol):
    """What can be trained on. Boxes lie within the image."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        ...

    @property
    def cells(self) -> npt.NDArray[np.bool_]:
        """Where anything is marked, bool, a value for each square of `CELL` pixels."""
        ...

    def darkness(self, box: Box) -> npt.NDArray[np.uint8]:
        """Of a part, uint8 (h, w)."""
        ...

    def labels(self, box: Box) -> npt.NDArray[np.bool_]:
        """Of a part, bool (h, w)."""
        ...


@dataclass(frozen=True)
class ArrayImage:
    """An image in memory: darkness, uint8 (H, W), and what is marked, bool (H, W)."""

    name: str
    dark: npt.NDArray[np.uint8]
    marks: npt.NDArray[np.bool_]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.dark.shape[1], self.dark.shape[0]

    @property
    def cells(self) -> npt.NDArray[np.bool_]:
        """See `Image`."""
        return cells_of(self.marks)

    def darkness(self, box: Box) -> npt.NDArray[np.uint8]:
        """See `Image`."""
        return self.dark[box.top : box.bottom, box.left : box.right]

    def labels(self, box: Box) -> npt.NDArray[np.bool_]:
        """See `Image`."""
        return self.marks[box.top : box.bottom, box.left : box.right]


@dataclass(frozen=True)
class KeptImage:
    """An image in files: a byte a pixel in one, a bit a pixel in the other, row by row without anything else.

    They are read, not mapped: mapped pages would count as the rank's memory.
    """

    name: str
    size: tuple[int, int]
    dark_path: Path
    marks_path: Path
    cells: npt.NDArray[np.bool_]

    def darkness(self, box: Box) -> npt.NDArray[np.uint8]:
        """See `Image`."""
        found = np.empty((box.height, box.width), np.uint8)
        _read_rows(self.dark_path, self.size[0], box.left, box.top, found)
        return found

    def labels(self, box: Box) -> npt.NDArray[np.bool_]:
        """See `Image`."""
        first, last = box.left // 8, -(-box.right // 8)
        packed = np.empty((box.height, last - first), np.uint8)
        _read_rows(self.marks_path, bytes_of_row(self.size[0]), first, box.top, packed)
        bits = np.unpackbits(packed, axis=1)
        return bits[:, box.left - 8 * first : box.right - 8 * first].view(bool)


def bytes_of_row(width: int) -> int:
    """Of a file of marks."""
    return -(-width // 8)


def cells_of(marks: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Where anything is marked in squares of `CELL` pixels, bool (ceil(h / CELL), ceil(w / CELL))."""
    rows = np.add.reduceat(marks, np.arange(0, marks.shape[0], CELL), axis=0, dtype=np.int64)
    return np.asarray(np.add.reduceat(rows, np.arange(0, marks.shape[1], CELL), axis=1) > 0)


def _read_rows(path: Path, row_bytes: int, left: int, top: int, into: npt.NDArray[np.uint8]) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            for number, row in enumerate(into):
                if os.preadv(descriptor, [row], (top + number) * row_bytes + left) != len(row):
                    raise StorageError(f"{path}: is shorter than it was; delete it, and begin anew with --overwrite")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StorageError(f"{path}: cannot be read: {error.strerror or error}") from error
