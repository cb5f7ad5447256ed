"""The entry ``decision`` of a model package's description."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.pyramid.refining import Band

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_LIMITS = ("low", "high", "step")


def parse_decision(path: Path, value: Any, tile_size: int) -> tuple[Band | None, tuple[int, ...] | None]:
    """What leaves doubt where a run has several strides, and the strides that this was chosen for.

    Parameters
    ----------
    path
        The description, for messages.
    value
        The entry: ``{type: threshold}``, of which nothing follows here, or ``type: band`` with ``low``, ``high`` and
        ``step``, and ``strides`` or not.
    tile_size
        Side of a window in pixels, the widest stride that leaves nothing out.

    Returns
    -------
    tuple
        The band; and the strides in pixels, the finest first. None where the entry does not say.

    Raises
    ------
    InputError
        When it is anything else; a limit is no score, or strides do not nest.
    """
    if isinstance(value, dict) and value.items() <= {"type": "threshold"}.items():
        return None, None
    if not isinstance(value, dict) or value.get("type") != "band":
        raise InputError(f"{path}: decision is {value!r:.80}, expected {{type: threshold}} or {{type: band, ...}}")
    unknown = sorted(str(key) for key in set(value) - {"type", "strides", *_LIMITS})
    if unknown:
        raise InputError(
            f"{path}: decision has the unknown entry {unknown[0]!r:.80}, expected type, {', '.join(_LIMITS)}, strides"
        )
    low, high, step = (_number(path, name, value.get(name)) for name in _LIMITS)
    if not 0 <= low <= high <= 1:
        raise InputError(f"{path}: low and high of decision are {low:g} and {high:g}, expected 0 <= low <= high <= 1")
    if step <= 0:
        raise InputError(f"{path}: step of decision is {step:g}, expected a number above 0")
    return Band(low, high, step), _strides(path, value["strides"], tile_size) if "strides" in value else None


def decision_entry(band: Band | None, strides: Sequence[int] | None = None) -> dict[str, Any]:
    """The entry that `parse_decision` reads as this band with these strides."""
    if band is None:
        return {"type": "threshold"}
    chosen = {"strides": [int(stride) for stride in strides]} if strides else {}
    return {"type": "band", **chosen, **{name: float(getattr(band, name)) for name in _LIMITS}}


def _strides(path: Path, value: Any, tile_size: int) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(stride) is int and 0 < stride <= tile_size for stride in value)
    if not whole or len(value) < 2:
        raise InputError(
            f"{path}: strides of decision are {value!r:.80}, expected two or more whole numbers from 1 to {tile_size}"
        )
    for finer, coarser in pairwise(value):
        if coarser <= finer or coarser % finer:
            raise InputError(
                f"{path}: strides of decision are {value!r:.80}, expected the finest first and each a whole multiple "
                "of the one before"
            )
    return tuple(value)


def _number(path: Path, name: str, value: Any) -> float:
    number = math.nan
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML 1.1 reads 1e-3 as text
        except (ValueError, OverflowError):
            number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{path}: {name} of decision is {value!r:.80}, expected a number")
    return number
