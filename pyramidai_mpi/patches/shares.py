"""How tissue, tumour, white and black are spread over patches, label by label."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

MEASURED = ("tissue", "tumor", "white", "black")
"""Columns of the table of patches that a patch may lack: NaN where nobody has looked."""
N_BINS = 20
_MOST_NAMED = 12


@dataclass
class Spread:
    """One share of some patches of one label.

    Attributes
    ----------
    n_patches, n_measured
        Patches, and those of which it is known.
    total
        Sum over these.
    bins
        int64 (N_BINS,): how many of these lie in each of equal parts of 0 to 1.
    """

    n_patches: int = 0
    n_measured: int = 0
    total: float = 0.0
    bins: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(N_BINS, np.int64))

    @property
    def mean(self) -> float | None:
        """Mean share; None where nobody has looked."""
        return self.total / self.n_measured if self.n_measured else None


class Spreads:
    """Spreads by share and label, of the patches of any number of files."""

    def __init__(self) -> None:
        self._by_label: dict[str, dict[str, Spread]] = {name: {} for name in MEASURED}

    def add(self, table: npt.NDArray[np.void], labels: Sequence[str], label: npt.NDArray[np.integer]) -> None:
        """Count the patches of a file.

        Parameters
        ----------
        table
            Its `PATCH_DTYPE` records.
        labels
            Names of labels.
        label
            Place of each patch's label among them.
        """
        n_of = np.bincount(label, minlength=len(labels))
        for share in MEASURED:
            is_known = ~np.isnan(table[share])
            known, place = table[share][is_known].astype(np.float64), label[is_known]
            edge = np.minimum((known * N_BINS).astype(np.int64), N_BINS - 1)
            bins = np.bincount(place * N_BINS + edge, minlength=len(labels) * N_BINS).reshape(-1, N_BINS)
            total = np.bincount(place, known, len(labels))
            for number, name in enumerate(labels):
                spread = self._by_label[share].setdefault(name, Spread())
                spread.n_patches += int(n_of[number])
                spread.n_measured += int(bins[number].sum())
                spread.total += float(total[number])
                spread.bins += bins[number]

    def of(self, share: str, label: str) -> Spread:
        """The spread of a share over the patches of a label."""
        return self._by_label[share].get(label, Spread())

    def measured(self, share: str) -> tuple[int, int]:
        """Of how many patches it is known, and of how many not."""
        spreads = self._by_label[share].values()
        known = sum(spread.n_measured for spread in spreads)
        return known, sum(spread.n_patches for spread in spreads) - known


@dataclass(frozen=True)
class Piece:
    """One colour's part of a bar: its foot and its height as parts of the tallest bar, and the colour for CSS."""

    foot: float
    height: float
    colour: str


@dataclass(frozen=True)
class Histogram:
    """A histogram as a page draws it.

    Attributes
    ----------
    share, title
        The column, and its name for people.
    n_measured, n_unknown
        Of how many patches it is known, and of how many not.
    tallest
        Patches of the tallest bar.
    bars
        Pieces of each bar from below, and what it stands for in words.
    """

    share: str
    title: str
    n_measured: int
    n_unknown: int
    tallest: int
    bars: list[tuple[list[Piece], str]]


_TITLES = {
    "tissue": "Tissue, share of the cell",
    "tumor": "Tumour, share of the cell's tissue",
    "white": "White, share of the patch",
    "black": "Black, share of the patch",
}


def histograms(spreads: Spreads, labels: Sequence[str], colours: Mapping[str, str]) -> list[Histogram]:
    """A histogram of each share, its bars put together of the labels.

    Parameters
    ----------
    spreads
        What there is to show.
    labels
        In the order in which they lie on each other; those of one colour lie together.
    colours
        Of each label, for CSS.
    """
    by_colour: dict[str, list[str]] = {}
    for label in labels:
        by_colour.setdefault(colours[label], []).append(label)
    made = []
    for share in MEASURED:
        counts = {label: spreads.of(share, label).bins for label in labels}
        stacked = np.zeros((len(by_colour) + 1, N_BINS), np.int64)
        for place, members in enumerate(by_colour.values()):
            stacked[place + 1] = stacked[place] + sum(counts[label] for label in members)
        tallest = int(stacked[-1].max())
        bars = []
        for n in range(N_BINS):
            pieces = [
                Piece(foot / tallest, (top - foot) / tallest, colour)
                for colour, foot, top in zip(by_colour, stacked[:-1, n], stacked[1:, n], strict=True)
                if top > foot
            ]
            parts = [f"{counts[label][n]} {label}" for label in labels if counts[label][n]]
            more = f", and {len(parts) - _MOST_NAMED} further labels" if len(parts) > _MOST_NAMED else ""
            said = f" ({', '.join(parts[:_MOST_NAMED])}{more})" if parts else ""
            bars.append((pieces, f"{n / N_BINS:.2f} to {(n + 1) / N_BINS:.2f}: {stacked[-1, n]} patches{said}"))
        made.append(Histogram(share, _TITLES[share], *spreads.measured(share), tallest, bars))
    return made


def percent(share: float | None) -> str:
    """A share in words."""
    return "not measured" if share is None or share != share else f"{100 * share:.1f} %"


def share_lines(spreads: Spreads, labels: Sequence[str]) -> list[str]:
    """How many patches have which label, and their mean shares, in two lines."""
    n_of = {label: spreads.of(MEASURED[0], label).n_patches for label in labels}
    means = []
    for share in MEASURED:
        known, unknown = spreads.measured(share)
        mean = sum(spreads.of(share, label).total for label in labels) / known if known else None
        means.append(f"{share} {percent(mean)}" + (f" (of {known})" if known and unknown else ""))
    return [
        f"counts     {', '.join(f'{n} {label}' for label, n in n_of.items()) or 'none'}",
        f"means      {', '.join(means)}",
    ]
