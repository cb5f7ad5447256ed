"""WSInfer's models: a ``config.json`` beside one ONNX file, read as a model package of one level.

The format is that of the WSInfer model zoo (Kaczmarzyk et al., npj Precision Oncology 2024; spec_version 1.0). Its
networks take normalised float pixels, NCHW, and give logits. The zoo's own files are TorchScript, which
``training.convert.zoo`` converts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.models.package import FloatInput, ModelLevel, ModelPackage

if TYPE_CHECKING:
    from pathlib import Path

CONFIG_NAME = "config.json"
_STEPS = ("Resize", "ToTensor", "Normalize")
_THRESHOLD = 0.5
_MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class WsinferConfig:
    """What a ``config.json`` says.

    Attributes
    ----------
    name
        Name of the model or of its architecture.
    classes
        One or more; a single one is the positive class.
    tile_size, base_mpp
        Side of the network's input in pixels, and their µm. A tile is what the network sees: where the config resizes
        patches of p pixels at s µm/px to q pixels, tiles have q pixels at s * p / q µm/px, so that the slide is
        resampled once.
    float_input
        How the network's values are made.
    text
        The file's text.
    """

    name: str
    classes: tuple[str, ...]
    tile_size: int
    base_mpp: float
    float_input: FloatInput
    text: str


def load_wsinfer(folder: Path) -> ModelPackage:
    """Read a WSInfer model folder with an ONNX file.

    With two classes the second is the positive one; with more there is none until the caller names it.

    Raises
    ------
    InputError
        With one line that names the file, what is wrong and what was expected.
    """
    networks = sorted(folder.glob("*.onnx"))
    if len(networks) != 1:
        raise InputError(
            f"{folder}: holds {len(networks)} ONNX files beside {CONFIG_NAME}, expected one; "
            "a TorchScript file is converted by `pyramidai models import`"
        )
    config = read_config(folder)
    if len(config.classes) < 2:
        raise InputError(f"{folder / CONFIG_NAME}: class_names has one name; an ONNX file needs two or more")
    sha256 = file_sha256(networks[0])
    return ModelPackage(
        folder=folder,
        name=config.name,
        classes=config.classes,
        positive_class=1 if len(config.classes) == 2 else None,
        tile_size=config.tile_size,
        scale_factor=2,
        base_mpp=config.base_mpp,
        stain="none",
        levels=(ModelLevel(0, networks[0], _THRESHOLD, sha256),),
        yaml_text=config.text,
        float_input=config.float_input,
        intended_use=IntendedUse.RESEARCH,
    )


def read_config(folder: Path) -> WsinferConfig:
    """Read the ``config.json`` of a folder.

    Raises
    ------
    InputError
        With one line that names the file, what is wrong and what was expected.
    """
    path = folder / CONFIG_NAME
    with input_errors(path):
        raw = path.read_bytes()
    if len(raw) > _MAX_BYTES:
        raise InputError(f"{path}: larger than 1 MiB, so it is no WSInfer config")
    try:
        text = raw.decode("utf-8")
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected a WSInfer config, found {config!r:.60}")
    classes = _value(path, config, "class_names", list)
    if (
        not classes
        or not all(isinstance(c, str) and c.isprintable() and c for c in classes)
        or len(set(classes)) != len(classes)
        or _value(path, config, "num_classes", int) != len(classes)
    ):
        raise InputError(f"{path}: class_names must be distinct names, as many as num_classes says")
    patch = _value(path, config, "patch_size_pixels", int)
    spacing = _value(path, config, "spacing_um_px", (int, float))
    if not (8 <= patch <= 8192 and _is_finite(spacing) and spacing > 0):
        raise InputError(f"{path}: patch_size_pixels or spacing_um_px is out of range")
    side, float_input = _transform(path, _value(path, config, "transform", list), patch)
    return WsinferConfig(
        name=next((str(n) for n in (config.get("name"), config.get("architecture")) if _is_name(n)), "wsinfer"),
        classes=tuple(classes),
        tile_size=side,
        base_mpp=spacing * patch / side,
        float_input=float_input,
        text=text,
    )


def _transform(path: Path, steps: list[Any], patch: int) -> tuple[int, FloatInput]:
    """Side of the network's input, and how its values are made."""
    side: Any = patch
    mean: tuple[Any, ...] = (0.0, 0.0, 0.0)
    std: tuple[Any, ...] = (1.0, 1.0, 1.0)
    seen = [str(step.get("name")) if isinstance(step, dict) else repr(step) for step in steps]
    if "ToTensor" not in seen or [name for name in _STEPS if name in seen] != seen:
        raise InputError(f"{path}: transform is {seen!s:.200}, expected {', '.join(_STEPS)} in this order")
    for name, step in zip(seen, steps, strict=True):
        arguments = step.get("arguments") or {}
        if not isinstance(arguments, dict):
            raise InputError(f"{path}: arguments of {name} are {arguments!r:.60}, expected a mapping")
        if name == "Resize":
            side = arguments.get("size")
        elif name == "Normalize":
            mean, std = (
                tuple(values) if isinstance(values := arguments.get(key), list) else () for key in ("mean", "std")
            )
    if not isinstance(side, int) or isinstance(side, bool) or not 8 <= side <= 8192:
        raise InputError(f"{path}: transform resizes to {side!r:.80}, expected a whole number of pixels in [8, 8192]")
    numbers = [*mean, *std]
    if len(mean) != 3 or len(std) != 3 or not all(map(_is_finite, numbers)) or 0 in std:
        raise InputError(f"{path}: Normalize needs three numbers each for mean and std, std not 0")
    return side, FloatInput(mean, std)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and bool(value)


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < 1e6  # false for NaN and infinity too


def _value(path: Path, config: dict[str, Any], key: str, kind: type | tuple[type, ...]) -> Any:
    if not isinstance(config.get(key), kind) or isinstance(config.get(key), bool):
        raise InputError(f"{path}: {key} is {config.get(key)!r:.60}, expected as in WSInfer's spec 1.0")
    return config[key]
