"""The entry ``stain`` of a model package's description."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.stain.map import MacenkoTarget, ReinhardTarget, StainTarget

if TYPE_CHECKING:
    from pathlib import Path

_NUMBERS = {
    "macenko": {"hematoxylin": 3, "eosin": 3, "strengths": 2},
    "reinhard": {"mean": 3, "std": 3},
}
_MAY_BE_NEGATIVE = {"mean"}


def parse_stain(path: Path, value: Any) -> tuple[str, StainTarget | None]:
    """Method and target of an entry: ``none``, or a mapping of ``method`` and ``target``.

    Macenko's target may be left out (that of Macenko's own implementation), Reinhard's may not.

    Raises
    ------
    InputError
        When it is anything else.
    """
    if value in ("none", {"method": "none"}):
        return "none", None
    method = value.get("method") if isinstance(value, dict) else None
    if not isinstance(method, str) or method not in _NUMBERS:
        raise InputError(f"{path}: stain is {value!r:.80}, expected {{method: none}}, macenko or reinhard")
    unknown = sorted(str(key) for key in set(value) - {"method", "target"})
    if unknown:
        raise InputError(f"{path}: stain has the unknown entry {unknown[0]!r:.80}, expected method and target")
    if method == "macenko" and "target" not in value:
        return method, MacenkoTarget()
    numbers = _target(path, method, value.get("target"))
    return method, MacenkoTarget(**numbers) if method == "macenko" else ReinhardTarget(**numbers)


def stain_entry(target: StainTarget | None) -> dict[str, Any]:
    """The entry that `parse_stain` reads as this target."""
    if target is None:
        return {"method": "none"}
    method = "macenko" if isinstance(target, MacenkoTarget) else "reinhard"
    return {"method": method, "target": {key: list(getattr(target, key)) for key in _NUMBERS[method]}}


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
