"""Explained tiles as PNG, each beside its map, with a table of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.export.explained.pictures import GROUND, by_score, map_over, open_tiles, own_scale
from pyramidai_mpi.export.explained.table import columns_of, lines_of
from pyramidai_mpi.export.explained.words import sentences_of
from pyramidai_mpi.export.replaced_folder import FolderKind, replaced_folder
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.store.explanations.reader import read_explanation

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.store.explanations.contents import Explanation

_TABLE, _READ_ME = "tiles.csv", "README.txt"
_KIND = FolderKind(
    "explained tiles that this program has cut",
    _READ_ME,
    r"tiles\.csv|README\.txt|\d{4,}_-?\d[\d.e+-]*_x-?\d+_y-?\d+\.png",
)
_GAP = 8


def write_explained_tiles(
    explained: Path, folder: Path, slide: Path | None = None, *, overwrite: bool = False, top: int | None = None
) -> None:
    """Write the readable tiles as PNG, ``tiles.csv`` and ``README.txt``, the highest score first.

    On the left of each picture are the pixels that the network was given, before stain normalisation; on the right the
    same in grey under the map, coloured on the tile's own scale. The text says so, and method, class and layer. Names
    are as `export.tiles` has them; the table has the columns of `table.write_explained_csv` after ``file``.

    Parameters
    ----------
    top
        At most so many tiles; None for all.

    Raises
    ------
    UsageError
        When the slide is not given, or `top` is below 1.
    InputError
        When the explanations or a tile cannot be read, or the slide is another one.
    OutputExistsError, StorageError
        When the folder is in the way or cannot be written.
    """
    if slide is None:
        raise UsageError(f"{folder}: tiles are cut from the slide; give it with --slide")
    if top is not None and top < 1:
        raise UsageError(f"--top {top}: expected at least one tile")
    check_explained_tiles(folder, overwrite=overwrite)
    explanation = read_explanation(explained)
    with (
        open_tiles(explained, explanation, slide) as pixels,
        replaced_folder(folder, _KIND, overwrite=overwrite) as made,
        (made / _TABLE).open("w", encoding="utf-8", newline="") as table,
    ):
        assert pixels is not None
        table.write(csv_row(["file", *columns_of(explanation)]))
        lines, side = lines_of(explanation), explanation.model.tile_size
        chosen = by_score(explanation)[:top]
        digits = max(4, len(str(len(chosen))))
        for rank, number in enumerate(chosen, start=1):
            l0_x, l0_y = explanation.tiles.l0_coords[number].tolist()
            try:
                tile = pixels.read(number)
            except UnreadableRegionError as error:
                raise InputError(
                    f"{slide}: its tile at level-0 pixel {l0_x}, {l0_y}, which was explained, cannot be read: {error}"
                ) from error
            shown = map_over(tile, explanation.tiles.maps[number], own_scale(explanation, number), side)
            gap = np.full((side, _GAP, 3), GROUND, np.uint8)
            name = f"{rank:0{digits}}_{explanation.score[number]:.4f}_x{l0_x}_y{l0_y}.png"
            Image.fromarray(np.concatenate([tile, gap, shown], axis=1)).save(made / name, format="PNG")
            table.write(csv_row([name, *lines[number]]))
        (made / _READ_ME).write_text(_read_me(explanation), encoding="utf-8")


def check_explained_tiles(folder: Path, slide_name: str = "", *, overwrite: bool, inputs: Sequence[Path] = ()) -> None:
    """As `FolderKind.check`, whatever the slide is called."""
    _KIND.check(folder, overwrite=overwrite)


def _read_me(explanation: Explanation) -> str:
    ends = "purple speaks against the class, orange for it" if explanation.is_signed else "yellow speaks most for it"
    return (
        f"{sentences_of(explanation)}\n\nEach picture: the tile, and its map over it in grey; {ends}. "
        "Colours are each map's own: those of two pictures cannot be compared, the columns of tiles.csv can.\n"
    )
