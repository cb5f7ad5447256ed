"""The overlay as Deep Zoom: a folder of small pictures that OpenSeadragon and its like show in a browser."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.store.files.placing import check_folder, storage_errors, sweep, temporary_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.base.types import RgbArray

_TILE = 256
_QUALITY = 85
_DOWNSAMPLE = 8.0
_NAME = "overlay"


def write_deepzoom(result: Path, folder: Path, slide: Path | None = None, *, overwrite: bool = False) -> None:
    """Write ``folder/overlay.dzi`` and its tiles: the scores over the slide, at 8 level-0 pixels a pixel.

    Memory is that of a few rows of tiles. The format is Microsoft's Deep Zoom: level n is the picture reduced to at
    most 2**n pixels a side, in JPEG tiles of 256 pixels without overlap.

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
    for left_behind in (folder, _aside(folder)):
        sweep(left_behind)
    temporary = temporary_name(folder)
    try:
        downsample = None if slide is None else _DOWNSAMPLE
        with open_picture(result, slide, downsample=downsample) as picture, storage_errors(temporary):
            width, height = picture.size
            temporary.mkdir()
            deepest = _Level(temporary / f"{_NAME}_files", (max(width, height) - 1).bit_length())
            (temporary / f"{_NAME}.dzi").write_text(_descriptor(width, height), encoding="utf-8")
            for top in range(0, height, _TILE):
                deepest.add(picture.overlay(top, min(top + _TILE, height)))
            deepest.finish()
            _place_folder(temporary, folder, overwrite=overwrite)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class _Level:
    """One level of the pyramid: takes rows, writes full rows of tiles, and passes their halves on to the next level."""

    def __init__(self, folder: Path, number: int) -> None:
        self._folder, self._number = folder / str(number), number
        self._folder.mkdir(parents=True)
        self._next = _Level(folder, number - 1) if number else None
        self._waiting: list[RgbArray] = []
        self._tile_row = 0

    def add(self, rows: RgbArray) -> None:
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

    def _write(self, band: RgbArray) -> None:
        for col, left in enumerate(range(0, band.shape[1], _TILE)):
            tile = Image.fromarray(np.ascontiguousarray(band[:, left : left + _TILE]))
            tile.save(self._folder / f"{col}_{self._tile_row}.jpeg", quality=_QUALITY)
        self._tile_row += 1
        if self._next is not None:
            self._next.add(_halved(band))


def _halved(band: RgbArray) -> RgbArray:
    """2 x 2 means; an odd last row or column counts twice."""
    padded = np.pad(band, ((0, len(band) % 2), (0, band.shape[1] % 2), (0, 0)), mode="edge").astype(np.uint16)
    total = padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]
    return ((total + 2) // 4).astype(np.uint8)


def _descriptor(width: int, height: int) -> str:
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="jpeg" Overlap="0" TileSize="{_TILE}">'
        f'<Size Width="{width}" Height="{height}"/></Image>\n'
    )


def files_of_deepzoom(folder: Path, slide_name: str = "") -> list[Path]:
    """All files in the folder, whatever the slide is called."""
    return [path for path in folder.rglob("*") if path.is_file()]


def _aside(folder: Path) -> Path:
    """Where the older folder goes while the new one takes its name."""
    return folder.with_name(f"{folder.name}.old")


def check_deepzoom(folder: Path, slide_name: str = "", *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """Find out before the work whether the folder could be made after it, whatever the slide is called.

    No input is in danger, as only a Deep Zoom picture is ever replaced.

    Raises
    ------
    OutputExistsError, StorageError
        When something is in the way, or the folder that it is to lie in is missing or cannot be written.
    """
    check_folder(folder.parent)
    if os.path.lexists(folder) and not (folder.is_dir() and (overwrite or not any(folder.iterdir()))):
        raise OutputExistsError(f"{folder}: exists already; use --overwrite to replace it or name another folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / f"{_NAME}.dzi").is_file():
        raise OutputExistsError(f"{folder}: holds something else than a Deep Zoom picture; name another folder")


def _place_folder(temporary: Path, folder: Path, *, overwrite: bool) -> None:
    check_deepzoom(folder, overwrite=overwrite)
    if folder.exists() and any(folder.iterdir()):
        old = temporary_name(_aside(folder))
        folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old)
    else:
        temporary.rename(folder)  # replaces an empty folder
