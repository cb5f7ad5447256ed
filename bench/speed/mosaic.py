"""Slides of any size from one generated block: as many tissue tiles as wanted, without painting each of them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.synth.pyramid import encode_tile, halve

if TYPE_CHECKING:
    from collections.abc import Iterator

_MPP = 0.25
_QUALITY = 80


def write_mosaic(path: Path, repeats: int, *, block: int, stored_tile: int, n_levels: int = 3) -> None:
    """Write a pyramidal JPEG TIFF: `repeats` x `repeats` copies of one block, the middle of a generated slide.

    Parameters
    ----------
    path
        The slide.
    repeats
        Copies along each side.
    block, stored_tile
        Sides in pixels of the block and of the file's tiles; on every level the first must be a multiple of the second.
    n_levels
        Stored levels, each half of the one before.
    """
    with tempfile.TemporaryDirectory() as folder:
        painted = Path(folder) / "painted.tif"
        write_slide(SynthSpec(2 * block, 2 * block, seed=5, tumor_share=0.3), painted)
        reader = open_slide(painted)
        image = reader.read((block // 2, block // 2), 0, (block, block))
        reader.close()
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for n in range(n_levels):
            side = block >> n
            if side % stored_tile:
                raise ValueError(f"a block of {block} px has no whole tiles of {stored_tile} px on level {n}")
            encoded = [
                [
                    encode_tile(image[y : y + stored_tile, x : x + stored_tile], _QUALITY)
                    for x in range(0, side, stored_tile)
                ]
                for y in range(0, side, stored_tile)
            ]
            tiff.write(
                _repeated(encoded, repeats),
                shape=(repeats * side, repeats * side, 3),
                dtype=np.uint8,
                tile=(stored_tile, stored_tile),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": _QUALITY},
                subsampling=(2, 2),
                subfiletype=1 if n else 0,
                metadata=None,
                resolution=(1e4 / (_MPP * 2**n),) * 2,
                resolutionunit="CENTIMETER",
            )
            image = halve(image)


def _repeated(encoded: list[list[bytes]], repeats: int) -> Iterator[bytes]:
    for _ in range(repeats):
        for row in encoded:
            for _ in range(repeats):
                yield from row
