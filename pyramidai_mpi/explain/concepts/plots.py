"""Concepts over the layers of a network, as figures: how well each is foretold, and how far the answer turns on it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pyramidai_mpi.base.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from pyramidai_mpi.explain.concepts.findings import Row
    from pyramidai_mpi.explain.concepts.sensitivity import Interval

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Told apart with the common colour-vision deficiencies (Okabe and Ito)."""

FIGURES = {"r2": "held-out R2", "br": "Br"}
"""What is drawn, and what its axis says."""


def draw(name: str, rows: Sequence[Row]) -> Figure:
    """One of `FIGURES` of every concept over the layers, with intervals; what was not learnt has no Br."""
    layers = list(dict.fromkeys(row.layer for row in rows))
    concepts = list(dict.fromkeys(row.concept for row in rows))
    figure = Figure(figsize=(max(6.0, 0.55 * len(layers) + 3.5), 4.4), layout="constrained")
    axes = figure.add_subplot()
    for number, concept in enumerate(concepts):
        shift = 0.5 * ((number + 0.5) / len(concepts) - 0.5)
        found = {row.layer: row for row in rows if row.concept == concept}
        places, values = [], []
        for place, layer in enumerate(layers):
            row = found.get(layer)
            if row is not None and row.finding is not None and (name == "r2" or row.means_something):
                places.append(place + shift)
                values.append(getattr(row.finding, name))
        _line(axes, places, values, _COLOURS[number % len(_COLOURS)], concept)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xticks(range(len(layers)), layers, rotation=40, ha="right", fontsize=7)
    axes.set(ylabel=FIGURES[name], xlabel="layers, from the pixels to the answer")
    axes.grid(axis="y", alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def _line(axes: Axes, places: Sequence[float], values: Sequence[Interval], colour: str, label: str) -> None:
    ends = [
        [0.0 if math.isnan(end) else abs(one.value - end) for one in values for end in (getattr(one, side),)]
        for side in ("low", "high")
    ]
    axes.errorbar(
        places,
        [one.value for one in values],
        yerr=ends,
        fmt="o-",
        color=colour,
        markersize=3.5,
        linewidth=1,
        capsize=2,
        label=label,
    )
