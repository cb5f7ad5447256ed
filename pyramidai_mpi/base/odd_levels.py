"""How stored levels are read whose size is no whole fraction of level 0's: see `slides.spacing`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

OWN = "own"
"""Their own pixels, as they are stored."""
INTERPOLATED = "interpolated"
"""OpenSlide's, which lie at fractions of them; all levels were read so before there was a choice."""
ODD_LEVELS = (OWN, INTERPOLATED)
"""The default first."""


def odd_levels_of(execution: Mapping[str, Any]) -> str:
    """How they were read for a file, by the attributes of its ``/execution``: who says nothing had no choice."""
    return OWN if execution.get("odd_levels") == OWN else INTERPOLATED
