"""Colours of attributions that the colour-blind can tell apart.

Maps without negative numbers go from dark blue over grey to yellow: cividis (Nuñez, Anderton and Renslow 2018), made to
look alike with and without deuteranopia. Signed ones are white at 0, orange for the class and purple against it:
ColorBrewer's PuOr (Harrower and Brewer 2003).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.export.explained.words import title_of
from pyramidai_mpi.export.shown import SIGNED, Scale

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.store.explanations.contents import Explanation

UNSIGNED = ((0, 34, 78), (87, 92, 109), (165, 156, 116), (254, 232, 56))
_WITHIN = 0.995
"""Share of the pixels whose numbers lie within the scale: single ones would leave the others without colour."""


def scale_of(explanation: Explanation, values: npt.NDArray[np.float32] | None = None) -> Scale:
    """The scale of all maps of an explanation, or of some numbers of it (any shape).

    Signed ones have the same length on both sides of 0. The ends are quantiles of the numbers: what lies beyond has the
    end's colour.
    """
    found = explanation.tiles.maps if values is None else values
    found = found[np.isfinite(found)]
    if explanation.is_signed:
        most = _end(np.abs(found))
        return Scale("attribution", title_of(explanation), -most, most, SIGNED)
    low = float(found.min()) if found.size else 0.0
    high = low + _end(found - low)
    return Scale("attribution", title_of(explanation), low, high, UNSIGNED)


def _end(values: npt.NDArray[np.float32]) -> float:
    """End of a scale that begins at 0; 1 where it would have no length."""
    if not values.size:
        return 1.0
    most = float(np.quantile(values, _WITHIN)) or float(values.max())
    return most if most > 0 else 1.0
