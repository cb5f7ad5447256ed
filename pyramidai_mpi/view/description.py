"""What the page is told of a result, as JSON: names, sizes, colours, and the tiles with the highest scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.cells import outcomes_of
from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.pyramid.looked_at import warning_of
from pyramidai_mpi.view.colours import (
    ANNOTATION,
    POSITIVE,
    TISSUE,
    UNREADABLE_DARK,
    UNREADABLE_LIGHT,
    ZOOMED,
    css,
    stopped,
)
from pyramidai_mpi.view.maps import NOT_ANALYSED
from pyramidai_mpi.view.tiles import TILE

if TYPE_CHECKING:
    from pyramidai_mpi.store.results.tables import Header
    from pyramidai_mpi.view.tiles import ViewTiles

N_BEST = 20
_RAMP = 9


def describe(tiles: ViewTiles, *, annotations: str | None, note: str) -> dict[str, Any]:
    """All that the page says of a result.

    Parameters
    ----------
    annotations
        Name of the file of annotations, None without one.
    note
        Why the slide is not shown; empty where it is.
    """
    header, grid = tiles.header, tiles.grid
    width, height = header.slide.l0_size
    counts = [np.bincount(one.decision.ravel(), minlength=256) for one in tiles.maps]
    analysed = [int(count[:NOT_ANALYSED].sum()) for count in counts]
    unreadable = [int(count[Decision.UNREADABLE]) for count in counts]
    return {
        "slide": {"name": header.slide.name, "width": width, "height": height, "mpp": header.slide.mpp},
        "hasSlide": tiles.readers is not None,
        "note": note,
        "model": header.model.name,
        "positive": header.model.positive_class,
        "claim": claim_of(header.model.intended_use),
        "warning": warning_of(analysed, unreadable),
        "created": header.created,
        "tileSize": TILE,
        "grid": {
            "cols": grid.shape(0)[0],
            "rows": grid.shape(0)[1],
            "spans": [grid.span(n) for n in range(grid.n_levels)],
        },
        "mask": {"cols": header.mask_shape[1], "rows": header.mask_shape[0], "downsample": header.mask_downsample},
        "zooms": tiles.n_zooms,
        "levels": [
            {
                "spacing": level.spacing_um_px,
                "threshold": level.threshold,
                "side": grid.l0_side(n),
                "stride": _stride(header, n),
                "analysed": analysed[n],
                "zoomed": int(counts[n][Decision.ZOOM]),
                "unreadable": unreadable[n],
                "stopped": css(stopped(n, len(header.levels))),
                "stoppedIs": outcomes_of(header, n)[Decision.STOP],
            }
            for n, level in enumerate(header.levels)
        ],
        "colours": {
            "positive": css(POSITIVE),
            "zoomed": css(ZOOMED),
            "tissue": css(TISSUE),
            "annotation": css(ANNOTATION),
            "unreadable": [css(UNREADABLE_DARK), css(UNREADABLE_LIGHT)],
            "ramp": [
                css((int(red), int(green), int(blue)))
                for red, green, blue in np.rint(score_colour(np.linspace(0, 1, _RAMP)))
            ],
        },
        "annotations": annotations,
        "best": best_tiles(tiles),
    }


def best_tiles(tiles: ViewTiles) -> list[dict[str, Any]]:
    """The tiles with the highest scores, of the finest level that has any that could be read; of strides windows."""
    if tiles.best:
        return [
            tile_at(tiles, one.level, one.col, one.row) | {"x": one.l0_x, "y": one.l0_y, "side": one.l0_side}
            for one in tiles.best
        ]
    for level, one in enumerate(tiles.maps):
        if np.isfinite(one.score).any():
            return [tile_at(tiles, level, int(col), int(row)) for col, row in one.best(N_BEST)]
    return []


def tiles_over(tiles: ViewTiles, l0_x: int, l0_y: int) -> list[dict[str, Any]]:
    """The analysed tiles over a level-0 pixel, the finest first."""
    found = []
    for level, one in enumerate(tiles.maps):
        side = tiles.grid.l0_side(level)
        col, row = int(l0_x // side), int(l0_y // side)
        rows, cols = one.decision.shape
        if 0 <= col < cols and 0 <= row < rows and one.decision[row, col] != NOT_ANALYSED:
            found.append(tile_at(tiles, level, col, row))
    return found


def tile_at(tiles: ViewTiles, level: int, col: int, row: int) -> dict[str, Any]:
    """An analysed tile in words and numbers."""
    score = float(tiles.maps[level].score[row, col])
    decision = int(tiles.maps[level].decision[row, col])
    corner = tiles.grid.l0_cell_corners(level, np.array([[col, row]]))[0]
    return {
        "level": level,
        "col": col,
        "row": row,
        "x": int(corner[0]),
        "y": int(corner[1]),
        "side": tiles.grid.l0_side(level),
        "stride": _stride(tiles.header, level),
        "score": None if np.isnan(score) else score,
        "outcome": outcomes_of(tiles.header, level)[decision],
    }


def _stride(header: Header, level: int) -> int | None:
    """Pixels of the level between windows; None where tiles are single ones."""
    record = header.levels[level]
    return record.cell if record.block > 1 else None
