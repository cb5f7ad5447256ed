"""What every package's ``model.yaml`` has in common: how it is read, and what its entries may hold."""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING, Any

import yaml

from pyramidai_mpi.base.damage import damage_and
from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from pathlib import Path

YAML_NAME = "model.yaml"
_MAX_YAML_BYTES = 1 << 20
_MOST_LETTERS = 400


def read_description(folder: Path) -> tuple[str, Any]:
    """Text of a package's ``model.yaml``, and what it says.

    Raises
    ------
    InputError
        There is none, or it is no sound YAML.
    """
    path = folder / YAML_NAME
    if not folder.is_dir():
        raise InputError(f"{folder}: no such model folder; give a folder that holds {YAML_NAME}")
    if not path.is_file():
        raise InputError(f"{folder}: holds no {YAML_NAME}, so it is no model package")
    with input_errors(path):
        size = path.stat().st_size
        raw = path.read_bytes() if size <= _MAX_YAML_BYTES else b""
    if size > _MAX_YAML_BYTES:
        raise InputError(f"{path}: larger than 1 MiB, so it is no model description")
    try:
        text = raw.decode("utf-8")
    except ValueError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error
    return text, read_yaml(path, text)


def read_yaml(path: Path, text: str) -> Any:
    """What YAML says, without aliases, repeated keys and keys that are no text.

    Parameters
    ----------
    path
        Where it is from, for messages.

    Raises
    ------
    InputError
        It is no sound YAML, or has any of these.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except damage_and(yaml.YAMLError) as error:
        # values such as 2001-99-99 or !!bool maybe meet PyYAML's constructors, which raise whatever they meet
        reason = " ".join(str(error).split())[:_MOST_LETTERS] or type(error).__name__
        raise InputError(f"{path}: not valid YAML: {reason}") from error


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases (they can expand without bound) and without repeated keys; ``1e-3`` is a number."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed; write the value out")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (self.construct_object(key, deep=True) for key, _ in node.value):
            if not isinstance(key, str):
                raise yaml.YAMLError(f"key {key!r:.80} is not text, line {node.start_mark.line + 1}")
            if key in seen:
                raise yaml.YAMLError(f"key {key!r:.80} is there twice, line {node.start_mark.line + 1}")
            seen.add(key)
        return super().construct_mapping(node, deep)


def mapping_at(
    path: Path, where: str, value: Any, required: frozenset[str], optional: frozenset[str] | None
) -> dict[str, Any]:
    """A mapping with these keys; with None as `optional` others may be there. All these raise `InputError`."""
    if not isinstance(value, dict):
        raise InputError(f"{path}: {where} must be a mapping, found {value!r:.80}")
    unknown = sorted(set(value) - required - optional) if optional is not None else []
    if optional is not None and unknown:
        raise InputError(
            f"{path}: {where} has the unknown key {unknown[0]!r:.80}; known: {sorted(required | optional)}"
        )
    missing = sorted(required - set(value))
    if missing:
        raise InputError(f"{path}: {where} lacks the key {missing[0]!r}")
    return value


def text_at(path: Path, key: str, value: Any) -> str:
    """Text of one line, not empty."""
    if not isinstance(value, str) or not value or not value.isprintable():
        raise InputError(f"{path}: {key} is {value!r:.80}, expected text without control characters")
    return value


def whole_at(path: Path, key: str, value: Any, low: int, high: int) -> int:
    """A whole number within limits."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InputError(f"{path}: {key} is {value!r:.80}, expected a whole number in [{low}, {high}]")
    return value


def number_at(path: Path, key: str, value: Any, *, above: float | None, at_most: float) -> float:
    """A finite number within limits; also one that YAML took for text."""
    if isinstance(value, str | int) and not isinstance(value, bool):  # YAML 1.1 reads 1e-3 as text
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if not isinstance(value, float) or not math.isfinite(value):
        raise InputError(f"{path}: {key} is {value!r:.80}, expected a number")
    if value > at_most or (above is not None and value <= above):
        expected = f"at most {at_most:g}" if above is None else f"above {above:g} and at most {at_most:g}"
        raise InputError(f"{path}: {key} is {value:g}, expected a number {expected}")
    return float(value)
