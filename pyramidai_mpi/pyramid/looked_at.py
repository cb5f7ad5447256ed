"""What a complete result did not look at: complete says that no tile is missing, not that anything was seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def warning_of(tiles: Sequence[int], unreadable: Sequence[int]) -> str:
    """In words, that nothing was looked at, or nothing at level 0, and why; empty where something was.

    Parameters
    ----------
    tiles, unreadable
        Tiles of each level, and those among them that could not be read; level 0 first.
    """
    n_tiles = sum(tiles)
    if n_tiles == 0:
        return "no tissue found, so nothing was looked at"
    if n_tiles == sum(unreadable):
        return f"none of its {n_tiles} tiles could be read, so nothing was looked at"
    if tiles[0] == 0:
        level = next(n for n, count in enumerate(tiles) if count)
        return f"nothing was looked at at level 0: no tile was zoomed into of the {tiles[level]} of level {level}"
    if tiles[0] == unreadable[0]:
        return f"nothing was looked at at level 0: none of its {tiles[0]} tiles could be read"
    return ""
