"""Masks of this program's, read level by level in bands of rows."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import tifffile

from pyramidai_mpi.base.errors import InputError, PyramidError, failed_read
from pyramidai_mpi.base.tiff_chain import pages_in_chain
from pyramidai_mpi.store.masks.writer import FORMAT, TILE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pyramidai_mpi.pyramid.mask_labels import Labels

_LONGEST_SIDE = 1 << 20
"""Of a mask: a slide of 2^31 pixels has fewer at 256 pixels a mask pixel."""


@dataclass(frozen=True)
class MaskFile:
    """An open mask.

    Attributes
    ----------
    path
        The file.
    facts
        What it says of itself.
    sizes
        Width and height of each stored level, the largest first.
    """

    path: Path
    facts: dict[str, Any]
    sizes: tuple[tuple[int, int], ...]
    _tiff: tifffile.TiffFile

    def bands(self, level: int) -> Iterator[tuple[int, Labels]]:
        """Rows of a level from the top: the first one's number, and uint8 (h, width).

        Raises
        ------
        InputError
            When they cannot be read.
        """
        width, height = self.sizes[level]
        band = np.empty((0, width), np.uint8)
        with _named_damage(self.path):
            for data, index, _ in self._tiff.pages[level].segments(maxworkers=1):
                top, left = index[-3:-1]
                if left == 0:
                    band = np.zeros((min(TILE, height - top), width), np.uint8)
                if data is not None:
                    part = band[:, left : left + TILE]
                    part[:] = data.reshape(data.shape[-3:-1])[: part.shape[0], : part.shape[1]]
                if left + TILE >= width:
                    yield top, band


@contextmanager
def open_mask_file(path: Path) -> Iterator[MaskFile]:
    """Open a mask that this program has written.

    Raises
    ------
    InputError
        When it is none.
    """
    with _named_damage(path):
        tiff = tifffile.TiffFile(path)
    with tiff:
        with _named_damage(path):
            facts = json.loads(tiff.pages.first.description)
            sizes = tuple(_checked_size(_page(page)) for page in pages_in_chain(tiff))
        if not isinstance(facts, dict) or facts.get("format") != FORMAT:
            raise InputError(f"{path}: not a mask of this program's, expected one that says {FORMAT}")
        yield MaskFile(path, facts, sizes, tiff)


def read_facts(path: Path) -> dict[str, Any]:
    """What a mask of this program's says of itself; raises as `open_mask_file`."""
    with open_mask_file(path) as mask:
        return mask.facts


def _checked_size(page: Any) -> tuple[int, int]:
    """Width and height of a level whose tiles are as this program stores them; others may claim any memory.

    Raises
    ------
    ValueError
        They are not.
    """
    size = int(page.imagewidth), int(page.imagelength)
    layout = (
        page.tilewidth,
        page.tilelength,
        page.imagedepth,
        page.tiledepth,
        page.samplesperpixel,
        page.bitspersample,
    )
    if not all(0 < side <= _LONGEST_SIDE for side in size) or layout != (TILE, TILE, 1, 1, 1, 8):
        raise ValueError(f"a level of {size[0]} x {size[1]} pixels, tiles of {page.tilewidth} x {page.tilelength}")
    return size


def _page(page: Any) -> Any:
    """What tifffile has read of a page: of some it keeps only where they differ from the one before."""
    return getattr(page, "keyframe", page)


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except PyramidError:
        raise
    except Exception as error:  # whatever a damaged file makes of tifffile
        raise failed_read(path, error) or InputError(
            f"{path}: not a mask of this program's ({' '.join(str(error).split())[:80]})"
        ) from error
