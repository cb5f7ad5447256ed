"""What was found of all concepts in all layers: as records that ranks hand each other, as a table and as a document."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.explain.concepts.sensitivity import Control, Finding, Interval, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

UNMEASURED = "not measured"
"""Verdict where there was nothing to examine."""

COLUMNS = (
    "layer", "concept", "verdict", "n_patches", "n_patients", "r2", "r2_low", "r2_high", "p_r2", "angle_degrees",
    "tcav", "tcav_low", "tcav_high", "br", "br_low", "br_high", "p_br", "random_r2_high", "random_tcav_low",
    "random_tcav_high", "random_br_low", "random_br_high",
)  # fmt: skip
_ENDS = (0.025, 0.975)


@dataclass(frozen=True)
class Row:
    """A concept in a layer.

    Attributes
    ----------
    layer, concept
        Their names.
    finding
        What was found; None where fewer than three patients have values, or these do not vary.
    """

    layer: str
    concept: str
    finding: Finding | None

    @property
    def verdict(self) -> str:
        """In words."""
        return UNMEASURED if self.finding is None else str(self.finding.verdict)

    @property
    def means_something(self) -> bool:
        """Whether sensitivities along the direction say anything: not where it foretells nothing."""
        return self.finding is not None and self.finding.verdict is not Verdict.NOT_LEARNT


def record_dtype(n_shuffles: int, n_maps: int) -> np.dtype[np.void]:
    """Records of findings: of this many shuffled concepts, and directions of at most so many maps."""
    three, many = (3,), (n_shuffles,)
    return np.dtype(
        [
            ("n_patches", "<i8"),
            ("n_patients", "<i8"),
            ("r2", "<f8", three),
            ("tcav", "<f8", three),
            ("br", "<f8", three),
            ("angle", "<f8"),
            ("mean", "<f8"),
            ("deviation", "<f8"),
            ("penalty", "<f8"),
            ("random_r2", "<f8", many),
            ("random_tcav", "<f8", many),
            ("random_br", "<f8", many),
            ("n_maps", "<i8"),
            ("direction", "<f8", (n_maps,)),
        ]
    )


def packed(finding: Finding | None, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
    """A finding as one record, (1,); of None, one of no patches."""
    record = np.zeros(1, dtype)
    if finding is None:
        return record
    for name in ("n_patches", "n_patients", "r2", "tcav", "br", "angle", "mean", "deviation", "penalty"):
        record[name] = getattr(finding, name)
    for name in ("r2", "tcav", "br"):
        record[f"random_{name}"] = getattr(finding.control, name)
    record["n_maps"] = len(finding.direction)
    record["direction"][0, : len(finding.direction)] = finding.direction
    return record


def unpacked(record: np.void) -> Finding | None:
    """The finding of a record."""
    if not record["n_patches"]:
        return None
    r2, tcav, br = (Interval(*record[name].tolist()) for name in ("r2", "tcav", "br"))
    return Finding(
        int(record["n_patches"]),
        int(record["n_patients"]),
        r2,
        float(record["angle"]),
        tcav,
        br,
        float(record["mean"]),
        float(record["deviation"]),
        float(record["penalty"]),
        Control(record["random_r2"].copy(), record["random_tcav"].copy(), record["random_br"].copy()),
        record["direction"][: int(record["n_maps"])].copy(),
    )


def table_lines(rows: Iterable[Row]) -> list[str]:
    """The table as CSV; what means nothing is left empty: TCAV and Br of what was not learnt."""
    return [csv_row(COLUMNS), *(csv_row(_cells(row)) for row in rows)]


def _cells(row: Row) -> list[object]:
    found = row.finding
    if found is None:
        return [row.layer, row.concept, row.verdict, *[None] * (len(COLUMNS) - 3)]
    ends = {name: _ends(getattr(found.control, name)) for name in ("r2", "tcav", "br")}
    used: Sequence[float] = [math.nan] * 7
    if row.means_something:
        used = [*found.tcav, *found.br, found.p_br]
    numbers = [*found.r2, found.p_r2, found.angle, *used, ends["r2"][1], *ends["tcav"], *ends["br"]]
    shown = [None if math.isnan(number) else f"{number:.6g}" for number in numbers]
    return [row.layer, row.concept, row.verdict, found.n_patches, found.n_patients, *shown]


def _ends(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Within which 95 % of what is defined lie."""
    defined = values[~np.isnan(values)]
    if not len(defined):
        return math.nan, math.nan
    low, high = np.quantile(defined, _ENDS)
    return float(low), float(high)


def document_text(facts: dict[str, Any], rows: Iterable[Row]) -> str:
    """All figures as JSON: facts about the model, patches and settings first."""
    return json.dumps({**facts, "findings": [_entry(row) for row in rows]}, indent=1, allow_nan=False) + "\n"


def _entry(row: Row) -> dict[str, Any]:
    found = row.finding
    entry: dict[str, Any] = {"layer": row.layer, "concept": row.concept, "verdict": row.verdict}
    if found is None:
        return entry
    entry |= {
        "n_patches": found.n_patches,
        "n_patients": found.n_patients,
        "r2": _interval(found.r2),
        "p_r2": _number(found.p_r2),
        "angle_degrees": _number(found.angle),
        "penalty": found.penalty,
        "tcav": _interval(found.tcav) if row.means_something else None,
        "br": _interval(found.br) if row.means_something else None,
        "p_br": _number(found.p_br) if row.means_something else None,
        "sensitivity": {"mean": found.mean, "deviation": found.deviation} if row.means_something else None,
        "random": {
            name: [_number(value) for value in getattr(found.control, name).tolist()] for name in ("r2", "tcav", "br")
        },
        "direction": found.direction.tolist(),
    }
    return entry


def _interval(found: Interval) -> dict[str, float | None]:
    return {"value": _number(found.value), "low": _number(found.low), "high": _number(found.high)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
