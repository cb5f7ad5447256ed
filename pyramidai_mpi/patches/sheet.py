"""A contact sheet: some patches of each label, drawn by lot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.page import data_uri
from pyramidai_mpi.patches.shares import percent
from pyramidai_mpi.pyramid.draws import draw
from pyramidai_mpi.slides.readers.base import UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

_SIDE = 128
_MOST = 480
"""Patches on a page: each takes about 5 kB of it."""


@dataclass(frozen=True)
class Card:
    """One patch.

    Attributes
    ----------
    number
        Of the patch in its file.
    l0_x, l0_y
        Top-left corner of its window in level-0 pixels of the slide.
    shares
        What is known of it, in words.
    uri
        Its pixels as a ``data:`` address, at most 128 a side; empty where there are none to show.
    flaw
        Why they could not be read.
    """

    number: int
    l0_x: int
    l0_y: int
    shares: list[tuple[str, str]]
    uri: str = ""
    flaw: str = ""


@dataclass(frozen=True)
class Strip:
    """The patches shown of a label, and how many there are."""

    label: str
    cards: list[Card]
    n_patches: int


def draw_sheet(
    table: npt.NDArray[np.void], label: npt.NDArray[np.integer], n_labels: int, per_label: int, seed: int, salt: str
) -> list[npt.NDArray[np.int64]]:
    """Numbers of the patches to show of each label, in order: drawn without replacement, each as likely as any other.

    Parameters
    ----------
    table, label
        `PATCH_DTYPE` records, and the number of each one's label, 0 to `n_labels` - 1.
    per_label
        At most so many of each; fewer where that were more than 480 in all, none of the labels that come too late.
    seed, salt
        What decides the draw beside the places: the caller's number, and the slide's quick hash.
    """
    most = max(1, min(per_label, _MOST // max(1, n_labels)))
    chosen: list[npt.NDArray[np.int64]] = []
    ends = np.cumsum(np.bincount(label, minlength=n_labels))
    for members in np.split(np.argsort(label, kind="stable"), ends)[:n_labels]:
        index = np.stack([table["col"][members], table["row"][members]], axis=1)
        chosen.append(members[draw(index, most if len(chosen) < _MOST else 0, seed, salt)])
    return chosen


def sheet(
    table: npt.NDArray[np.void],
    labels: Sequence[str],
    chosen: Sequence[npt.NDArray[np.int64]],
    n_of: Sequence[int],
    read: Callable[[int], RgbArray] | None,
) -> list[Strip]:
    """The strips of a sheet, of the labels of which patches were chosen.

    Parameters
    ----------
    table
        `PATCH_DTYPE` records.
    labels, chosen, n_of
        Names, patches to show and patches there are of each label.
    read
        Gives the pixels of a patch; None where there are none.
    """
    return [
        Strip(label, [_card(table[number], int(number), read) for number in numbers], n)
        for label, numbers, n in zip(labels, chosen, n_of, strict=True)
        if len(numbers)
    ]


def _card(patch: np.void, number: int, read: Callable[[int], RgbArray] | None) -> Card:
    shares = [
        (name, percent(float(patch[column])))
        for name, column in (("tissue", "tissue"), ("tumour", "tumor"), ("white", "white"))
        if not np.isnan(patch[column])
    ]
    place = int(patch["l0_x"]), int(patch["l0_y"])
    if read is None:
        return Card(number, *place, shares)
    try:
        image = Image.fromarray(read(number))
    except (InputError, UnreadableRegionError) as error:
        return Card(number, *place, shares, flaw=f"{error!s:.200}")
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return Card(number, *place, shares, data_uri(image, "JPEG", quality=82))
