"""The only writer of model packages: one ONNX file a level, then ``model.yaml``, each whole before it has its name."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from pyramidai_mpi.base.errors import OutputExistsError, input_errors
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.models.decision_entry import decision_entry
from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.package import FORMAT, POSITION
from pyramidai_mpi.models.segmentation_package import FORMAT as SEGMENTATION_FORMAT
from pyramidai_mpi.models.segmentation_package import ONNX_NAME, is_segmentation_package, load_segmentation_package
from pyramidai_mpi.models.stain.entry import stain_entry
from pyramidai_mpi.store.files.placing import placed, placed_folder, storage_errors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.models.segmentation_package import SegmentationPackage, SegmentationText
    from pyramidai_mpi.models.stain.map import StainTarget

TILE = 224
"""Side of a tile in pixels, where nobody asks for another."""
SCALE_FACTOR = 2
BASE_MPP = 0.25
"""Micrometres per pixel of level 0, where nobody asks for another."""
_OF_SEGMENTATION = frozenset({ONNX_NAME, YAML_NAME, "README.md", "log.csv", "curves.html"})
"""What the folder of a network that segments holds; one that holds anything else is never replaced."""


@dataclass(frozen=True)
class PackageText:
    """What a new package says of itself.

    Attributes
    ----------
    name, description
        The package's name, and free text such as where its networks come from.
    classes, positive_class
        Names of the classes, in the order of the networks' output, and which of them is looked for; no classes for an
        encoder.
    tile_size
        Side of a tile in pixels.
    base_mpp
        Micrometres per pixel of level 0.
    threshold
        The threshold that every level has until the package is tuned.
    random_weights
        Whether any weights were drawn at random, which ``model.yaml`` then says; the package is for benchmarks.
    intended_use
        What the model is for, a value of `IntendedUse`; None to say nothing.
    stain_target
        What the colours of the tiles are brought to; None for no normalisation.
    stain_per
        Whose colours those are: ``slide`` or ``tile``.
    sees_position
        Whether the networks are told where a tile lies.
    batch
        Tiles that a network is given at a time; None to say nothing.
    """

    name: str
    description: str = ""
    classes: tuple[str, ...] = ("normal", "tumor")
    positive_class: str = "tumor"
    tile_size: int = TILE
    base_mpp: float = BASE_MPP
    threshold: float = 0.5
    random_weights: bool = False
    intended_use: str | None = None
    stain_target: StainTarget | None = None
    stain_per: str = "slide"
    sees_position: bool = False
    batch: int | None = None

    def document(self, n_levels: int) -> dict[str, Any]:
        """The content of ``model.yaml`` for so many levels, all but the networks' hashes."""
        threshold = {"threshold": self.threshold} if self.classes else {}
        batch = {} if self.batch is None else {"batch": self.batch}
        return {
            "format": FORMAT,
            "name": self.name,
            **({"description": self.description} if self.description else {}),
            **({"intended_use": str(self.intended_use)} if self.intended_use else {}),
            **({"weights": "random"} if self.random_weights else {}),
            "classes": list(self.classes),
            **({"positive_class": self.positive_class} if self.classes else {}),
            "tile_size": self.tile_size,
            "scale_factor": SCALE_FACTOR,
            "base_mpp": self.base_mpp,
            "stain": stain_entry(self.stain_target, self.stain_per),
            "input": {"layout": "NHWC", "dtype": "uint8"},
            "inputs": [POSITION] if self.sees_position else [],
            **({"decision": decision_entry(None)} if self.classes else {}),
            "levels": [{"level": n, "onnx": onnx_name(n), **threshold, **batch} for n in range(n_levels)],
        }


def onnx_name(level: int) -> str:
    """Name of a level's network in a package of ours."""
    return f"level{level}.onnx"


def document_of(package: ModelPackage) -> dict[str, Any]:
    """The content of a package's ``model.yaml``, to be changed and written anew."""
    document: dict[str, Any] = yaml.safe_load(package.yaml_text)
    return document


def write_package(
    folder: Path,
    document: Mapping[str, Any],
    networks: Sequence[bytes | Path],
    aggregator: bytes | Path | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a package's networks where they are not there yet, then its description.

    A folder without a description is no package, so one whose writing was cut short is none.

    Parameters
    ----------
    folder
        Where the package is to lie, in a folder that is there; it is made if need be.
    document
        The content of ``model.yaml``; the networks' hashes in it are found anew.
    networks
        The network of each level, level 0 first: a serialised graph, or a file to copy.
    aggregator
        The aggregator's network likewise, where the document has the entry ``aggregator``.
    overwrite
        Whether a description that is there is replaced. A network that is there never is.

    Returns
    -------
    Path
        The description.

    Raises
    ------
    InputError
        When a file to copy cannot be read.
    OutputExistsError
        When another network has the name of one of these, or a description is there and `overwrite` is not set.
    StorageError
        When the folder cannot be written.
    """
    with storage_errors(folder):
        folder.mkdir(exist_ok=True)
    described = {
        **document,
        "levels": [_with_network(folder, entry, networks[entry["level"]]) for entry in document["levels"]],
    }
    if ("aggregator" in document) != (aggregator is not None):
        raise ValueError("an aggregator needs its entry in the document and its network, both")
    if aggregator is not None:
        described["aggregator"] = _with_network(folder, document["aggregator"], aggregator)
    text = yaml.safe_dump(described, sort_keys=False, allow_unicode=True)
    path = folder / YAML_NAME
    with placed(path, overwrite=overwrite) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _with_network(folder: Path, entry: dict[str, Any], network: bytes | Path) -> dict[str, Any]:
    """An entry with its network's hash, once that is in its place."""
    data, path = _read(network), folder / entry["onnx"]
    if not path.is_file() or path.read_bytes() != data:
        with placed(path) as temporary:
            temporary.write_bytes(data)
    return entry | {"sha256": hashlib.sha256(data).hexdigest()}


def write_segmentation_package(
    folder: Path,
    text: SegmentationText,
    network: bytes,
    files: Mapping[str, str] | None = None,
    *,
    overwrite: bool = False,
) -> SegmentationPackage:
    """Write a package of a network that segments, whole or not at all, and read it back.

    Parameters
    ----------
    folder
        Where it is to lie.
    text
        What it says of its network.
    network
        The serialised graph.
    files
        Texts that go with it, such as ``README.md``, by name.
    overwrite
        Whether such a package that is there is replaced; it stays until the new one is complete.

    Raises
    ------
    OutputExistsError
        Something has the folder's name that is not to be replaced.
    StorageError
        It cannot be written.
    """
    document: dict[str, Any] = {
        "format": SEGMENTATION_FORMAT,
        "name": text.name,
        **({"description": text.description} if text.description else {}),
        "intended_use": None if text.intended_use is None else str(text.intended_use),
        "classes": list(text.classes),
        "mpp": text.mpp,
        "total_stride": text.total_stride,
        "halo": text.halo,
        "threshold": text.threshold,
        "onnx": ONNX_NAME,
        "sha256": hashlib.sha256(network).hexdigest(),
    }
    check_replaceable(folder, overwrite=overwrite)
    with placed_folder(folder, replaces=overwrite, makes_parents=False) as partial:
        (partial / ONNX_NAME).write_bytes(network)
        for name, content in (files or {}).items():
            (partial / name).write_text(content, encoding="utf-8")
        described = yaml.safe_dump(document, sort_keys=False, allow_unicode=True)
        (partial / YAML_NAME).write_text(described, encoding="utf-8")
        load_segmentation_package(partial)
    return load_segmentation_package(folder, check_file=False)


def check_replaceable(folder: Path, *, overwrite: bool) -> None:
    """See whether a package of a network that segments may be written there.

    Raises
    ------
    OutputExistsError
        Something is there, and `overwrite` is not set, or it is no such package or holds other things too.
    """
    if is_there(folder) and not overwrite:
        raise OutputExistsError(f"{folder}: exists already; use --overwrite to replace it, or name another with -o")
    if is_there(folder) and not is_segmentation_package(folder):
        raise OutputExistsError(f"{folder}: is no package of such a network, and is not replaced; name another with -o")
    if is_there(folder) and (strange := sorted({path.name for path in folder.iterdir()} - _OF_SEGMENTATION)):
        raise OutputExistsError(f"{folder}: holds {strange[0]}, which no training has made; name another with -o")


def _read(network: bytes | Path) -> bytes:
    if isinstance(network, bytes):
        return network
    with input_errors(network):
        return network.read_bytes()
