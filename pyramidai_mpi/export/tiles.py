"""The highest-scored tiles as pictures, with a table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.export.cells import is_dense
from pyramidai_mpi.export.picture import open_picture
from pyramidai_mpi.export.replaced_folder import FolderKind, replaced_folder
from pyramidai_mpi.export.shown import column_names, shown_values, tile_columns
from pyramidai_mpi.export.tile_pixels import pyramid_of, read_shown
from pyramidai_mpi.export.top_tiles import highest_tiles, highest_windows, tiles_of_highest
from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.export.picture import Picture
    from pyramidai_mpi.export.shown import Show
    from pyramidai_mpi.export.top_tiles import TopTile

DEFAULT_TOP = 50
_TABLE = "tiles.csv"
_KIND = FolderKind("tiles that this program has cut", _TABLE, r"tiles\.csv|\d{4,}_-?\d[\d.e+-]*_x-?\d+_y-?\d+\.png")
_COLUMNS = ("file", "level", "col", "row", "l0_x", "l0_y", "l0_side", "spacing_um_px", "score")
_LEVEL = 0


def write_tiles(
    result: Path,
    folder: Path,
    slide: Path | None = None,
    *,
    overwrite: bool = False,
    top: int = DEFAULT_TOP,
    show: Show | None = None,
) -> None:
    """Write the level-0 tiles with the highest scores as PNG, and ``tiles.csv``, the highest first.

    Pixels are those that the network was given, before stain normalisation. Names sort by rank and say score and
    corner: ``0001_0.9981_x21504_y9408.png``. Columns of the table are ``file,level,col,row``, ``l0_x,l0_y,l0_side``
    (level-0 pixels of the file), ``spacing_um_px``, ``score`` (of the positive class), ``prob_<class>`` for each class,
    ``decision`` (0 or 1), ``outcome`` (``negative`` or ``positive``), and of a predicted slide the columns of
    `export.shown.tile_columns`. A result without tiles of level 0 has a table
    without rows.

    Of a result with strides they are the windows of `top_tiles.highest_windows`, with column and row of their cells; of
    classes other than the positive one the table tells nothing.

    Parameters
    ----------
    result
        Result file.
    folder
        Folder to make.
    slide
        The slide it was made from.
    overwrite
        Replace an existing folder of tiles.
    top
        How many tiles at most.
    show
        Of a predicted slide: the tiles of the highest attention or contribution instead, which names then say.

    Raises
    ------
    UsageError
        When the slide is not given, `top` is below 1, or the result has nothing of the kind to show.
    InputError
        When the result cannot be read, the slide is another one than the result's, or a tile that the run has read
        cannot be read again.
    OutputExistsError, StorageError
        When the folder is in the way or cannot be written.
    """
    if slide is None:
        raise UsageError(f"{folder}: tiles are cut from the slide; give it with --slide")
    if top < 1:
        raise UsageError(f"--top {top}: expected at least one tile")
    check_tiles(folder, overwrite=overwrite)
    with open_picture(result, slide, show=show) as picture, replaced_folder(folder, _KIND, overwrite=overwrite) as made:
        _write(picture, slide, made, top, show)


def check_tiles(folder: Path, slide_name: str = "", *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """As `FolderKind.check`, whatever the slide is called."""
    _KIND.check(folder, overwrite=overwrite)


def files_of_tiles(folder: Path, slide_name: str = "") -> list[Path]:
    """All files in the folder, whatever the slide is called."""
    return [path for path in folder.rglob("*") if path.is_file()]


def _write(picture: Picture, slide: Path, folder: Path, top: int, show: Show | None) -> None:
    header = picture.header
    assert picture.reader is not None
    pyramid = pyramid_of(picture.reader, header)
    title = [*_COLUMNS, *(f"prob_{name}" for name in header.model.classes), "decision", "outcome"]
    title += column_names(header.prediction)
    with (folder / _TABLE).open("w", encoding="utf-8", newline="") as table:
        table.write(csv_row(title))
        values = None if show is None else shown_values(picture.file, header, show)[0]
        if values is not None:
            tiles = tiles_of_highest(picture.file, header, values, top)
        elif is_dense(header):
            tiles = highest_windows(picture.file, header, top)
        else:
            tiles = highest_tiles(picture.file, header, _LEVEL, top)
        digits = max(4, len(str(len(tiles))))
        for rank, tile in enumerate(tiles, start=1):
            try:
                pixels = read_shown(pyramid, header, tile)
            except UnreadableRegionError as error:
                raise InputError(
                    f"{slide}: its tile at level-0 pixel {tile.l0_x}, {tile.l0_y}, which the run has read, cannot be "
                    f"read now: {error}"
                ) from error
            value = f"{tile.score:.4f}" if values is None else f"{values[tile.table_row]:.4g}"
            name = f"{rank:0{digits}}_{value}_x{tile.l0_x}_y{tile.l0_y}.png"
            Image.fromarray(pixels).save(folder / name, format="PNG")
            more = tile_columns(picture.file, header, tile.level, tile.table_row, tile.table_row + 1).values()
            cells = _cells(name, tile, header.levels[tile.level].spacing_um_px)
            table.write(csv_row([*cells, *(f"{column[0]:.9g}" for column in more)]))


def _cells(name: str, tile: TopTile, spacing: float) -> list[object]:
    # nine digits give back every float32; of windows in blocks the other classes are not known
    numbers = ["" if np.isnan(value) else f"{value:.9g}" for value in (tile.score, *tile.probability.tolist())]
    place = (tile.level, tile.col, tile.row, tile.l0_x, tile.l0_y, tile.l0_side)
    return [name, *place, f"{spacing:g}", *numbers, int(tile.decision), tile.outcome]
