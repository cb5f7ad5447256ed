"""Tables of runs beside each other: medians and spreads, ratios within a turn, agreement tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bench.peers.ways import Run

COST_HEADS = (
    "way",
    "runs",
    "tiles",
    "wall s",
    "least to most",
    "tiles/s",
    "CPU s",
    "start s",
    "peak MB",
    "times",
    "least to most",
)
AGREEMENT_HEADS = ("way", "shared tiles", "largest difference", "other decisions", "positives", "kept")


def cost_rows(runs: Sequence[Run], base: str) -> Iterator[list[object]]:
    """A row for each way: what it took, and how many times as long as `base` took in the same turn."""
    of_base = {run.turn: run.wall_s for run in runs if run.way == base}
    by_way: dict[str, list[Run]] = {}
    for run in runs:
        by_way.setdefault(run.way, []).append(run)
    for way, here in by_way.items():
        walls = [run.wall_s for run in here]
        ratios = [run.wall_s / of_base[run.turn] for run in here if run.turn in of_base] or [float("nan")]
        yield [
            way,
            len(here),
            here[-1].tiles,
            f"{median(walls):.1f}",
            f"{min(walls):.1f} to {max(walls):.1f}",
            f"{median(run.tiles / run.wall_s for run in here):.1f}",
            f"{median(run.cpu_s for run in here):.0f}",
            f"{median(run.start_s for run in here):.1f}",
            f"{median(run.peak_mb for run in here):.0f}",
            f"{median(ratios):.2f}",
            f"{min(ratios):.2f} to {max(ratios):.2f}",
        ]


@dataclass(frozen=True)
class Agreement:
    """Two answers beside each other.

    Attributes
    ----------
    shared
        Tiles that both have.
    largest
        Difference of their probabilities; NaN without shared tiles.
    decisions
        Of the shared tiles, those that the threshold puts on different sides.
    positives
        Of the first answer.
    kept
        Of these, those that the second has and calls positive.
    """

    shared: int
    largest: float
    decisions: int
    positives: int
    kept: int


def agreement(
    first: tuple[np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray],
    threshold: float,
    other_threshold: float,
) -> Agreement:
    """Compare answers by corner.

    Parameters
    ----------
    first, second
        Corners, int64 (N, 2), and probabilities, float (N,); NaN is no answer.
    threshold, other_threshold
        At least this much is positive, of the first and of the second.
    """
    one, other = (
        {tuple(corner): float(p) for corner, p in zip(c.tolist(), probabilities, strict=True) if not np.isnan(p)}
        for c, probabilities in (first, second)
    )
    shared = one.keys() & other.keys()
    positive = {corner for corner, p in one.items() if p >= threshold}
    return Agreement(
        len(shared),
        max((abs(one[corner] - other[corner]) for corner in shared), default=float("nan")),
        sum((one[corner] >= threshold) != (other[corner] >= other_threshold) for corner in shared),
        len(positive),
        sum(other.get(corner, -np.inf) >= other_threshold for corner in positive),
    )


def agreement_row(way: str, found: Agreement) -> list[object]:
    """A row of the table."""
    share = f"{found.kept / found.positives:.1%}" if found.positives else "none"
    return [way, found.shared, f"{found.largest:.1e}", found.decisions, found.positives, share]
