"""Explained tiles over the slide: their stitched maps piece by piece, and what is known of one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.export.explained.layer import explanation_for, painted
from pyramidai_mpi.export.explained.scales import scale_of
from pyramidai_mpi.export.explained.stitched import pyramid_of, seen_at, stitched
from pyramidai_mpi.export.explained.words import CAVEAT, title_of
from pyramidai_mpi.store.explanations.contents import CURVES
from pyramidai_mpi.view.colours import css
from pyramidai_mpi.view.tiles import png

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.export.explained.stitched import StitchedMap
    from pyramidai_mpi.export.shown import Scale
    from pyramidai_mpi.store.explanations.contents import Explanation
    from pyramidai_mpi.store.results.tables import Header
    from pyramidai_mpi.view.tiles import Part

MOST_FRAMES = 5000
"""Tiles that the page draws frames around."""
_RAMP = 9


@dataclass(frozen=True)
class ExplainedView:
    """Explained tiles of the slide that is viewed. Used by any number of threads.

    Attributes
    ----------
    explanation
        The tiles.
    levels
        Their stitched maps, see `stitched.pyramid_of`.
    scale
        How numbers become colours.
    """

    explanation: Explanation
    levels: tuple[StitchedMap, ...]
    scale: Scale
    _areas: dict[str, npt.NDArray[np.float64]]

    def picture(self, part: Part) -> bytes:
        """A part of the picture as PNG, clear where no tile was explained."""
        values = seen_at(self.levels, part.downsample, (part.top, part.bottom), (part.left, part.right))
        return png(painted(values, self.scale))

    def describe(self) -> dict[str, Any]:
        """What the page says of them, and where they lie."""
        tiles, scale = self.explanation.tiles, self.scale
        ramp = np.rint(scale.colour(np.linspace(scale.low, scale.high, _RAMP))).astype(int).tolist()
        corners = tiles.l0_coords[:MOST_FRAMES].tolist()
        sides = tiles.l0_side[:MOST_FRAMES].tolist()
        return {
            "title": title_of(self.explanation),
            "caveat": CAVEAT,
            "claim": claim_of(self.explanation.model.intended_use),
            "low": scale.low,
            "high": scale.high,
            "signed": scale.is_signed,
            "ramp": [css((red, green, blue)) for red, green, blue in ramp],
            "count": len(tiles),
            "frames": [[x, y, side] for (x, y), side in zip(corners, sides, strict=True)],
        }

    def at(self, l0_x: int, l0_y: int) -> dict[str, Any]:
        """What is known of a level-0 pixel: attribution there, and the explained tiles over it; None for no number."""
        tiles = self.explanation.tiles
        value = seen_at(self.levels[:1], 1.0, (l0_y, l0_y + 1), (l0_x, l0_x + 1))[0, 0]
        offset = np.array([l0_x, l0_y]) - tiles.l0_coords
        over = np.flatnonzero(((offset >= 0) & (offset < tiles.l0_side[:, None])).all(axis=1))
        return {"attribution": _number(value), "tiles": [self._tile(number) for number in over.tolist()]}

    def _tile(self, number: int) -> dict[str, Any]:
        col, row = self.explanation.tiles.index[number].tolist()
        return {
            "col": col,
            "row": row,
            "score": _number(self.explanation.score[number]),
            "repeatability": _number(self.explanation.tiles.repeatability[number]),
            "areas": {name: _number(self._areas[name][number]) for name in CURVES} if self._areas else None,
        }


def open_explained(explained: Path, result: Path, header: Header) -> ExplainedView:
    """Read explained tiles for viewing over a result.

    Raises
    ------
    InputError
        As `export.explained.layer.explanation_for`.
    """
    explanation = explanation_for(explained, result, header)
    scale = scale_of(explanation)
    levels = pyramid_of(stitched(explanation), signed=scale.is_signed)
    return ExplainedView(explanation, levels, scale, explanation.tiles.areas())


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
