"""Networks in ONNX: what is done to them in the trial's child, and the trial as a whole.

`NETWORKS` does in the process that fuzzes what the child does before it runs a network; a crash of the ONNX library is
the child's, and contained. `TRIED` starts the child itself: whatever the network does, one line comes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx

from bench.faults.fuzz.target import Target
from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.engines.trial import found_in_trial, try_loading
from pyramidai_mpi.models.package import ModelLevel, load_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from pyramidai_mpi.models.package import ModelPackage

_SIDE = 32
_SECONDS, _MEMORY_BYTES = 20, 2 << 30
_OPERATORS = (
    "Identity", "Loop", "If", "Scan", "ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "Reshape", "Concat",
    "Gather", "Conv",
    "MatMul", "Softmax", "ReduceMean", "Cast", "Range", "Unsqueeze", "Transpose", "TopK", "NonZero", "QLinearConv",
    "Constant",
)  # fmt: skip
_NUMBERS = (0, 1, -1, 2, 7, 8, 255, 2**31 - 1, 2**31, 2**40, 2**62, -(2**62))


def _package(data: bytes, folder: Path) -> ModelPackage:
    import hashlib

    import yaml

    (folder / "level0.onnx").write_bytes(data)
    document = {
        "format": "pyramidai-model/1", "name": "n", "classes": ["normal", "tumor"], "positive_class": "tumor",
        "tile_size": _SIDE,
        "scale_factor": 2, "base_mpp": 0.25,
        "levels": [{"level": 0, "onnx": "level0.onnx", "sha256": hashlib.sha256(data).hexdigest(), "threshold": 0.5}],
    }  # fmt: skip
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    return load_package(folder)


def _check(data: bytes, folder: Path) -> None:
    package = _package(data, folder)
    level: ModelLevel = package.levels[0]
    check_network(level, package)


def _try(data: bytes, folder: Path) -> None:
    package = _package(data, folder)
    with try_loading(folder, seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as trial:
        found_in_trial(trial.check(), [level.batch for level in package.levels])


def _seeds(folder: Path) -> dict[str, bytes]:
    from bench.speed.tiny_network import write_tiny_package

    seeds = {}
    for name, n_features in (("plain", 0), ("features", 3)):
        package = write_tiny_package(folder / name, tile_size=_SIDE, thresholds=(0.5,), n_features=n_features)
        seeds[name] = (package / "level0.onnx").read_bytes()
    return seeds


def _mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """Fields of the graph changed, as protobuf knows them."""
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except Exception:  # protobuf's DecodeError has no public name
        return blind(data)
    for _ in range(chance.randint(1, 3)):
        messages = list(_messages(model))
        message = chance.choice(messages)
        fields = list(message.DESCRIPTOR.fields)
        filled = [field for field, _ in message.ListFields()]
        field = chance.choice(filled if filled and chance.random() < 0.8 else fields)
        _change(message, field, chance, blind, messages)
    return bytes(model.SerializeToString())


def _messages(message: Any) -> list[Any]:
    found, waiting = [], [message]
    while waiting and len(found) < 500:
        one = waiting.pop()
        found.append(one)
        for field, value in one.ListFields():
            if field.message_type is not None:
                waiting.extend(value if _is_list(field) else [value])
    return found


def _is_list(field: Any) -> bool:
    repeated = getattr(field, "is_repeated", None)
    return bool(repeated) if repeated is not None else field.label == field.LABEL_REPEATED


def _change(message: Any, field: Any, chance: Random, blind: Callable[[bytes], bytes], messages: list[Any]) -> None:
    name = field.name
    if field.message_type is not None:
        others = [one for one in messages if one.DESCRIPTOR is field.message_type]
        if _is_list(field):
            values = getattr(message, name)
            if values and chance.random() < 0.4:
                del values[chance.randrange(len(values))]
            elif others:
                values.add().CopyFrom(_copy(chance.choice(others)))
            else:
                values.add()
        elif chance.random() < 0.5 or not others:
            message.ClearField(name)
        else:
            getattr(message, name).CopyFrom(_copy(chance.choice(others)))
        return
    value = _scalar(message, field, chance, blind)
    if _is_list(field):
        values = getattr(message, name)
        if values and chance.random() < 0.7:
            values[chance.randrange(len(values))] = value
        else:
            values.append(value)
    elif chance.random() < 0.1:
        message.ClearField(name)
    else:
        setattr(message, name, value)


def _copy(message: Any) -> Any:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _scalar(message: Any, field: Any, chance: Random, blind: Callable[[bytes], bytes]) -> Any:
    if field.cpp_type == field.CPPTYPE_STRING:
        if field.type == field.TYPE_BYTES:
            now = b"" if _is_list(field) else getattr(message, field.name)
            return blind(now) if chance.random() < 0.7 else bytes(chance.choice([0, 1, 64, 4096]))
        words = [
            "",
            "x" * 300,
            "features",
            "pixels",
            "probabilities",
            "../x",
            "float",
            "mean",
            "weights",
            "com.microsoft",
            "evil",
        ]
        return chance.choice([*words, *_OPERATORS])
    if field.cpp_type in {field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE}:
        return chance.choice([0.0, 1.0, -1.0, float("nan"), float("inf"), 1e30])
    if field.cpp_type == field.CPPTYPE_ENUM:
        return chance.randrange(24)
    number = chance.choice([*_NUMBERS, chance.randrange(64)])
    return max(-(2**31), min(number, 2**31 - 1)) if field.cpp_type == field.CPPTYPE_INT32 else number


NETWORKS = Target(_check, _seeds, _mutate, memory_mib=1024)
# memory is limited, so a network that asks for more may be told apart from one that is wrong: that is no bug either
_LIMITED = frozenset({ExitCode.BAD_INPUT, ExitCode.USAGE, ExitCode.IO})
TRIED = Target(_try, _seeds, _mutate, refusals=_LIMITED, memory_mib=1024, seconds=5.0, may_start=True)
