"""The overlay and its layers as Deep Zoom: a folder of small pictures, and a page that shows them from the disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.export.deepzoom_page import PAGE_NAMES, ZoomLayer, write_page
from pyramidai_mpi.export.layers import painted_rows
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.export.replaced_folder import FolderKind, replaced_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.picture import Picture

_TILE = 256
_BAND = 64
"""Rows that are drawn at once."""
_PIECE = 4 * _TILE
"""Columns that are halved at once."""
_QUALITY = 85
_DOWNSAMPLE = 8.0
_FORMATS = {"overlay": "jpeg", "slide": "jpeg", "scores": "png", "look": "png"}
_KIND = FolderKind(
    "a Deep Zoom picture",
    "overlay.dzi",
    "|".join([rf"({'|'.join(_FORMATS)})(\.dzi|_files(/\d+(/\d+_\d+\.(jpeg|png))?)?)", *PAGE_NAMES]),
)


def write_deepzoom(result: Path, folder: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Write a result as Deep Zoom pictures at 8 level-0 pixels a pixel, and ``folder/index.html``, which shows them.

    ``overlay.dzi`` is the scores over the slide, for any viewer. The page lays ``scores.dzi`` or ``look.dzi``, clear
    where nothing was looked at, over ``slide.dzi``. Memory is that of a few rows of tiles. The format is Microsoft's
    Deep Zoom: level n is the picture reduced to at most 2**n pixels a side, in JPEG or PNG tiles of 256 pixels without
    overlap. The page asks no server and no network for anything.

    Parameters
    ----------
    result
        Result file.
    folder
        Folder to make.
    slide
        The slide it was made from; without it the tissue mask is drawn, at its own resolution.
    overwrite
        Replace an existing folder.

    Raises
    ------
    InputError
        When the result cannot be read, or the slide is another one than the result's.
    OutputExistsError, StorageError
        When the folder is in the way or cannot be written.
    """
    check_deepzoom(folder, overwrite=overwrite)
    downsample = None if slide is None else _DOWNSAMPLE
    with (
        open_picture(result, slide, downsample=downsample) as picture,
        replaced_folder(folder, _KIND, overwrite=overwrite) as made,
    ):
        _write_pictures(picture, made)
        base = "Tissue" if picture.reader is None else "Slide"
        titles = {"slide": base, "scores": "Scores", "look": "Last look"}
        layers = [ZoomLayer(name, title, _FORMATS[name]) for name, title in titles.items()]
        write_page(picture, made, layers, _TILE)


def _write_pictures(picture: Picture, folder: Path) -> None:
    width, height = picture.size
    deepest = {}
    for name, kind in _FORMATS.items():
        (folder / f"{name}.dzi").write_text(_descriptor(width, height, kind), encoding="utf-8")
        deepest[name] = _Level(folder / f"{name}_files", (max(width, height) - 1).bit_length(), kind)
    for top in range(0, height, _BAND):
        rows = top, min(top + _BAND, height)
        slide = picture.slide(*rows)
        deepest["slide"].add(slide)
        deepest["overlay"].add(picture.overlay(*rows, slide=slide))
        deepest["scores"].add(painted_rows(picture, "scores", *rows))
        deepest["look"].add(painted_rows(picture, "looks", *rows))
    for level in deepest.values():
        level.finish()


class _Level:
    """One level of the pyramid: takes rows, writes full rows of tiles, and passes their halves on to the next level."""

    def __init__(self, folder: Path, number: int, kind: str) -> None:
        self._folder, self._number, self._kind = folder / str(number), number, kind
        self._folder.mkdir(parents=True)
        self._next = _Level(folder, number - 1, kind) if number else None
        self._waiting: list[npt.NDArray[np.uint8]] = []
        self._tile_row = 0

    def add(self, rows: npt.NDArray[np.uint8]) -> None:
        """Take the next rows of the picture, at most a tile's height."""
        self._waiting.append(rows)
        if sum(map(len, self._waiting)) >= _TILE:
            band = np.concatenate(self._waiting)
            self._waiting = [band[_TILE:]] if len(band) > _TILE else []
            self._write(band[:_TILE])

    def finish(self) -> None:
        """Write what waits, on all levels."""
        if self._waiting:
            self._write(np.concatenate(self._waiting))
            self._waiting = []
        if self._next is not None:
            self._next.finish()

    def _write(self, band: npt.NDArray[np.uint8]) -> None:
        for col, left in enumerate(range(0, band.shape[1], _TILE)):
            tile = Image.fromarray(np.ascontiguousarray(band[:, left : left + _TILE]))
            tile.save(self._folder / f"{col}_{self._tile_row}.{self._kind}", quality=_QUALITY)
        self._tile_row += 1
        if self._next is not None:
            self._next.add(_halved(band))


def _halved(band: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """2 x 2 means, an odd last row or column counted twice; of four channels the last is the weight of the others."""
    pieces = [_piece_halved(band[:, left : left + _PIECE]) for left in range(0, band.shape[1], _PIECE)]
    return np.concatenate(pieces, axis=1)


def _piece_halved(band: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    padded = np.pad(band, ((0, len(band) % 2), (0, band.shape[1] % 2), (0, 0)), mode="edge").astype(np.uint32)
    if band.shape[2] == 3:
        return ((_sum_of_four(padded) + 2) // 4).astype(np.uint8)
    weight = padded[..., 3:]
    total = _sum_of_four(weight)
    colour = (_sum_of_four(padded[..., :3] * weight) + total // 2) // np.maximum(total, 1)
    return np.concatenate([colour, (total + 2) // 4], axis=2).astype(np.uint8)


def _sum_of_four(pixels: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    return pixels[::2, ::2] + pixels[1::2, ::2] + pixels[::2, 1::2] + pixels[1::2, 1::2]


def _descriptor(width: int, height: int, kind: str) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{kind}" Overlap="0" TileSize="{_TILE}">'
        f'<Size Width="{width}" Height="{height}"/></Image>\n'
    )


def files_of_deepzoom(folder: Path, slide_name: str = "") -> list[Path]:
    """All files in the folder, whatever the slide is called."""
    return [path for path in folder.rglob("*") if path.is_file()]


def check_deepzoom(folder: Path, slide_name: str = "", *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """As `FolderKind.check`, whatever the slide is called."""
    _KIND.check(folder, overwrite=overwrite)
