"""Colours of labels, which whoever lacks one kind of cone can tell apart too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.patches.tally import NO_LABEL

if TYPE_CHECKING:
    from collections.abc import Sequence

Colour = tuple[int, int, int]
"""Red, green, blue, 0 to 255."""

# Of Okabe and Ito (2008), without black and the yellow that is lost on white.
_KNOWN = {"tumor": (213, 94, 0), "tumour": (213, 94, 0), "normal": (0, 114, 178), NO_LABEL: (90, 90, 90)}
_FREE = ((213, 94, 0), (0, 114, 178), (0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167))
_FURTHER = (20, 20, 20)


def label_colours(labels: Sequence[str]) -> dict[str, Colour]:
    """A colour for each label: known ones have theirs, up to six have one each, and all further ones share a dark one.

    Parameters
    ----------
    labels
        Their names, in their order.
    """
    colours = {name: _KNOWN[name] for name in labels if name in _KNOWN}
    free = iter([colour for colour in _FREE if colour not in colours.values()])
    return {name: colours.get(name) or next(free, _FURTHER) for name in labels}


def css(colour: Colour) -> str:
    """A colour for CSS."""
    return "rgb({} {} {})".format(*colour)


def css_colours(labels: Sequence[str]) -> dict[str, str]:
    """As `label_colours`, for CSS."""
    return {name: css(colour) for name, colour in label_colours(labels).items()}
