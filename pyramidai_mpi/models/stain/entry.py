"""The entry ``stain`` of a model package's description."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.stain.map import MacenkoTarget, ReinhardTarget, StainTarget

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERS = {
    "macenko": {"hematoxylin": 3, "eosin": 3, "strengths": 2},
    "reinhard": {"mean": 3, "std": 3},
}
_MAY_BE_NEGATIVE = {"mean"}
UNITS = ("slide", "tile")
"""What the stain may be estimated of: once of the slide, or of each tile by itself."""


class StainEntry(NamedTuple):
    """How stain is normalised: ``none``, ``macenko`` or ``reinhard``, to what, and in which of `UNITS`."""

    method: str
    target: StainTarget | None
    per: str = "slide"


def parse_stain(path: Path, value: Any) -> StainEntry:
    """What an entry says: ``none``, or a mapping of ``method``, ``target`` and ``per``.

    Macenko's target may be left out (that of Macenko's own implementation), Reinhard's may not. Without ``per`` the
    stain is the slide's.

    Raises
    ------
    InputError
        When it is anything else.
    """
    if value in ("none", {"method": "none"}):
        return StainEntry("none", None)
    method = value.get("method") if isinstance(value, dict) else None
    if not isinstance(method, str) or method not in _NUMBERS:
        raise InputError(f"{path}: stain is {value!r:.80}, expected {{method: none}}, macenko or reinhard")
    unknown = sorted(str(key) for key in set(value) - {"method", "target", "per"})
    if unknown:
        raise InputError(f"{path}: stain has the unknown entry {unknown[0]!r:.80}, expected method, target and per")
    per = value.get("per", "slide")
    if per not in UNITS:
        raise InputError(f"{path}: per of stain is {per!r:.80}, expected {' or '.join(UNITS)}")
    if method == "macenko" and "target" not in value:
        return StainEntry(method, MacenkoTarget(), per)
    numbers = _target(path, method, value.get("target"))
    return StainEntry(method, MacenkoTarget(**numbers) if method == "macenko" else ReinhardTarget(**numbers), per)


def stain_entry(target: StainTarget | None, per: str = "slide") -> dict[str, Any]:
    """The entry that `parse_stain` reads as this target, and this one of `UNITS`."""
    if target is None:
        return {"method": "none"}
    method = "macenko" if isinstance(target, MacenkoTarget) else "reinhard"
    entry = {"method": method, "target": {key: list(getattr(target, key)) for key in _NUMBERS[method]}}
    return entry if per == "slide" else entry | {"per": per}


def _target(path: Path, method: str, target: Any) -> dict[str, Any]:
    wanted = _NUMBERS[method]
    if not isinstance(target, dict) or set(target) != set(wanted):
        raise InputError(f"{path}: target of stain is {target!r:.80}, expected {' and '.join(wanted)} for {method}")
    for key, count in wanted.items():
        values = target[key]
        good = isinstance(values, list) and len(values) == count and all(_is_number(value) for value in values)
        if not good or (key not in _MAY_BE_NEGATIVE and not all(value > 0 for value in values)):
            positive = "" if key in _MAY_BE_NEGATIVE else " above 0"
            raise InputError(f"{path}: {key} of stain is {values!r:.80}, expected {count} numbers{positive}")
    return {key: tuple(float(value) for value in target[key]) for key in wanted}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and abs(value) < 1e3
