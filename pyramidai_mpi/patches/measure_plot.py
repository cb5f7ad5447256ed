"""The figure of what reading patches takes, over the size of their groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.figures import Figure, rc_context
from pyramidai_mpi.patches.measure import Way, spreads
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.patches.measure import Reading, Recommendation

_COLOURS = {Way.GROUP: "#0072b2", Way.SINGLE: "#d55e00", Way.ANEW: "#009e73"}
"""Told apart with the common colour-vision deficiencies (Okabe and Ito)."""
_STYLES = {"warm": "o-", "cold": "s--"}


def draw_readings(readings: Sequence[Reading], recommended: Recommendation) -> Figure:
    """Milliseconds a patch over the size of groups: medians, and from the least to the most of the repeats."""
    figure = Figure(figsize=(7.6, 4.2), layout="constrained")
    axes = figure.add_subplot()
    found = spreads(readings)
    sizes = sorted({reading.group for reading in readings})
    for state in recommended.states:
        for way, colour in _COLOURS.items():
            each = [found[state, size, way] for size in sizes]
            axes.errorbar(
                sizes,
                [one.median for one in each],
                yerr=[[one.median - one.least for one in each], [one.most - one.median for one in each]],
                fmt=_STYLES[state],
                color=colour,
                markersize=4,
                capsize=3,
                label=f"{way}, {state}",
            )
    axes.axvline(recommended.group, color="grey", linewidth=0.8, label=f"recommended: {recommended.group}")
    axes.set(xscale="log", yscale="log", xlabel="patches a group", ylabel="milliseconds a patch")
    axes.set_xticks(sizes, [str(size) for size in sizes], minor=False)
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8)
    return figure


def write_plot(
    path: Path, readings: Sequence[Reading], recommended: Recommendation, *, overwrite: bool = False
) -> None:
    """Draw it into a PNG or SVG file.

    Raises
    ------
    OutputExistsError, StorageError
        When the file is in the way or cannot be written.
    """
    figure = draw_readings(readings, recommended)
    # no date and no random names: equal figures are equal files
    with placed(path, overwrite=overwrite) as temporary, rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(
            temporary,
            format=path.suffix[1:].lower(),
            dpi=150,
            metadata={"Date": None} if path.suffix.lower() == ".svg" else {"Software": None},
        )
