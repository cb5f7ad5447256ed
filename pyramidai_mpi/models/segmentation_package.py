"""Packages of networks that segment whole images: the folder with ``model.yaml`` and one ONNX file, read and checked.

```yaml
format: pyramidai-segmentation/1
name: tissue
classes: [background, tissue]
mpp: 0.5                # µm per pixel that the network was trained on; null where nobody knows
total_stride: 32        # corners of what is computed apart lie at multiples of it
halo: 160               # pixels around, beyond which nothing counts; a multiple of it
threshold: 0.5
intended_use: demonstration
onnx: network.onnx
sha256: ...
```

The graph takes ``pixels``, uint8 (1, H, W, 3), RGB, H and W any multiples of the total stride, and gives
``probability``, float32 (1, H, W), of the second class. Grey, inversion and scale are within. Where an image ends, the
network was trained on zeros as its layers pad: nothing but the image may be given there, filled up to a multiple of the
total stride with white.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.models.description import YAML_NAME, mapping_at, number_at, read_description, text_at, whole_at

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "pyramidai-segmentation/1"
ONNX_NAME = "network.onnx"
INPUT, OUTPUT = "pixels", "probability"
"""Names in the graph."""
_REQUIRED = frozenset(
    {"format", "name", "classes", "mpp", "total_stride", "halo", "threshold", "intended_use", "onnx", "sha256"}
)
_OPTIONAL = frozenset({"description"})
_LARGEST_STRIDE, _LARGEST_HALO = 4096, 1 << 16


@dataclass(frozen=True)
class SegmentationText:
    """What a package says of its network.

    Attributes
    ----------
    name
        The model's name.
    mpp
        µm per pixel of what it was trained on; None where nobody knows.
    total_stride
        Where blocks may be cut: at multiples of so many pixels.
    halo
        How far around a block its pixels count, a multiple of the total stride.
    classes
        What a pixel below the threshold is, and one at or above it.
    threshold
        Of the probability, in [0, 1].
    intended_use
        A value of `IntendedUse`; None to say nothing.
    description
        Free text.
    """

    name: str
    mpp: float | None
    total_stride: int
    halo: int
    classes: tuple[str, str] = ("background", "tissue")
    threshold: float = 0.5
    intended_use: str | None = None
    description: str = ""


@dataclass(frozen=True)
class SegmentationPackage:
    """A package whose file was seen to match its description.

    Attributes
    ----------
    folder
        The package's folder.
    text
        What it says of its network.
    onnx_path
        The network's file.
    sha256
        Of the network, 64 hexadecimal digits.
    yaml_text
        The description as it was read.
    """

    folder: Path
    text: SegmentationText
    onnx_path: Path
    sha256: str
    yaml_text: str


def is_segmentation_package(folder: Path) -> bool:
    """Whether a folder's description says that it is such a package, sound or not."""
    if not (folder / YAML_NAME).is_file():
        return False
    try:
        _, document = read_description(folder)
    except InputError:
        return False
    return isinstance(document, dict) and str(document.get("format", "")).startswith(FORMAT.partition("/")[0] + "/")


def load_segmentation_package(folder: Path, *, check_file: bool = True) -> SegmentationPackage:
    """Read a package's description and check it against the file beside it.

    The network itself (inputs, outputs, opset) is checked by `check.check_segmentation_network`.

    Parameters
    ----------
    folder
        The package's folder.
    check_file
        Whether to compare the network's file with its hash; that it is there is checked in any case.

    Raises
    ------
    InputError
        With one line that names the file, what is wrong and what was expected.
    """
    path = folder / YAML_NAME
    yaml_text, document = read_description(folder)
    if isinstance(document, dict) and document.get("format") != FORMAT:
        raise InputError(
            f"{path}: format is {document.get('format')!r:.80}, expected {FORMAT!r}, a network that segments whole "
            "images, as `train-whole` makes it"
        )
    entries = mapping_at(path, "the document", document, _REQUIRED, _OPTIONAL)
    text, file_name, sha256 = _parse(path, entries)
    onnx_path = folder / file_name
    if not onnx_path.is_file():
        raise InputError(f"{onnx_path}: missing, though {path} names it as the network")
    if check_file and (found := file_sha256(onnx_path)) != sha256:
        raise InputError(f"{onnx_path}: its SHA-256 is {found[:16]}..., expected {sha256[:16]}... as in {path}")
    return SegmentationPackage(folder, text, onnx_path, sha256, yaml_text)


def _parse(path: Path, entries: dict[str, Any]) -> tuple[SegmentationText, str, str]:
    classes = entries["classes"]
    if not isinstance(classes, list) or len(classes) != 2 or len({text_at(path, "classes", c) for c in classes}) != 2:
        raise InputError(f"{path}: classes is {classes!r:.80}, expected two different names, of background first")
    stride = whole_at(path, "total_stride", entries["total_stride"], 1, _LARGEST_STRIDE)
    halo = whole_at(path, "halo", entries["halo"], 0, _LARGEST_HALO)
    if halo % stride:
        raise InputError(f"{path}: halo is {halo}, expected a multiple of total_stride, {stride}")
    threshold = number_at(path, "threshold", entries["threshold"], above=None, at_most=1.0)
    if threshold < 0:
        raise InputError(f"{path}: threshold is {threshold:g}, expected a number in [0, 1]")
    use = entries["intended_use"]
    if use is not None and (not isinstance(use, str) or use not in set(IntendedUse)):
        raise InputError(f"{path}: intended_use is {use!r:.80}, expected one of {', '.join(IntendedUse)}, or null")
    file_name = text_at(path, "onnx", entries["onnx"])
    if "/" in file_name or "\\" in file_name or file_name in {".", ".."} or len(file_name) > 255:
        raise InputError(f"{path}: onnx is {file_name!r:.80}, expected a file of the model's folder")
    mpp = entries["mpp"]
    text = SegmentationText(
        name=text_at(path, "name", entries["name"]),
        mpp=None if mpp is None else number_at(path, "mpp", mpp, above=0.0, at_most=1e6),
        total_stride=stride,
        halo=halo,
        classes=(classes[0], classes[1]),
        threshold=threshold,
        intended_use=use,
        description=text_at(path, "description", entries["description"]) if "description" in entries else "",
    )
    return text, file_name, text_at(path, "sha256", entries["sha256"])
