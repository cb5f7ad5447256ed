"""The entry ``aggregator`` of a model package's description: what makes one prediction of a slide's tiles."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

AGGREGATOR_ONNX = "aggregator.onnx"
"""Its file in a package of ours."""
AGGREGATOR_OUTPUTS = ("prediction", "attention", "contribution", "constant")
"""Names of an aggregator's outputs; its input is ``features``."""
_KEYS = ("onnx", "sha256", "method", "task", "classes")


class AggregatorMethod(StrEnum):
    """How tiles become a slide."""

    ABMIL = "abmil"
    MEAN = "mean"
    TRANSFORMER = "transformer"


class SlideTask(StrEnum):
    """What is predicted of a slide."""

    BINARY = "binary"
    CLASSES = "classes"
    SHARE = "share"
    SURVIVAL = "survival"


@dataclass(frozen=True)
class AggregatorEntry:
    """An aggregator of a package.

    Its network has one input, ``features`` float32 (N, F), N free, and four outputs: ``prediction`` float32 (C,);
    ``attention`` float32 (N, H), whose columns sum to 1; ``contribution`` float32 (N, C'), what each tile adds to what
    comes before the last sigmoid or softmax; ``constant`` float32 (C',), what is added to the sum of these.

    Attributes
    ----------
    onnx_path
        The network's file.
    sha256
        Hash of it, 64 hexadecimal digits.
    method, task
        How tiles become a slide, and what is predicted of it.
    classes
        Names of the numbers of a prediction: of ``binary`` the negative and the positive class; of ``classes`` two or
        more; of ``share`` and ``survival`` one.
    """

    onnx_path: Path
    sha256: str
    method: AggregatorMethod
    task: SlideTask
    classes: tuple[str, ...]


def aggregator_entry(method: AggregatorMethod, task: SlideTask, classes: Sequence[str]) -> dict[str, Any]:
    """The entry for a new package, all but the hash."""
    return {"onnx": AGGREGATOR_ONNX, "method": str(method), "task": str(task), "classes": list(classes)}


def parse_aggregator(folder: Path, path: Path, value: Any) -> AggregatorEntry:
    """Read the entry of a description.

    Parameters
    ----------
    folder, path
        The package, and its description, for messages.
    value
        The entry.

    Raises
    ------
    InputError
        When it is anything else than what `AggregatorEntry` says.
    """
    if not isinstance(value, dict) or set(value) != set(_KEYS):
        raise InputError(f"{path}: aggregator is {value!r:.80}, expected a mapping of {', '.join(_KEYS)}")
    for key in ("onnx", "sha256"):
        if not isinstance(value[key], str) or not value[key].isprintable():
            raise InputError(
                f"{path}: aggregator.{key} is {value[key]!r:.80}, expected text without control characters"
            )
    name = value["onnx"]
    if re.search(r"[/\\]", name) or name in {"", ".", ".."} or len(name) > 255:
        raise InputError(f"{path}: aggregator.onnx is {name!r:.80}, expected a file of the model's folder")
    method = _one_of(path, "method", value["method"], AggregatorMethod)
    task = _one_of(path, "task", value["task"], SlideTask)
    return AggregatorEntry(
        folder / name,
        value["sha256"],
        AggregatorMethod(method),
        SlideTask(task),
        _classes(path, value["classes"], task),
    )


def _one_of(path: Path, key: str, value: Any, known: type[StrEnum]) -> str:
    if not isinstance(value, str) or value not in set(known):
        raise InputError(f"{path}: aggregator.{key} is {value!r:.80}, expected one of {', '.join(known)}")
    return value


def _classes(path: Path, value: Any, task: str) -> tuple[str, ...]:
    are_names = isinstance(value, list) and all(isinstance(one, str) and one and one.isprintable() for one in value)
    if not are_names or len(set(value)) != len(value):
        raise InputError(f"{path}: aggregator.classes is {value!r:.80}, expected a list of names, none twice")
    fits = {
        SlideTask.BINARY: len(value) == 2,
        SlideTask.CLASSES: len(value) >= 2,
        SlideTask.SHARE: len(value) == 1,
        SlideTask.SURVIVAL: len(value) == 1,
    }[SlideTask(task)]
    if not fits:
        raise InputError(f"{path}: aggregator.classes is {value!r:.80}, which are not as many as task {task} has")
    return tuple(value)
