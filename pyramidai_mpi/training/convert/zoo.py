"""Folders of the WSInfer model zoo with a TorchScript file, as packages of one level."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.models.write import PackageText
from pyramidai_mpi.models.wsinfer import CONFIG_NAME, read_config
from pyramidai_mpi.store.files.placing import check_free
from pyramidai_mpi.training.convert.checked_package import place_package
from pyramidai_mpi.training.convert.torchscript import convert_torchscript

if TYPE_CHECKING:
    from pyramidai_mpi.training.convert.checked_package import Agreement

_ZOO_NAME = "torchscript_model.pt"


def import_zoo_folder(
    source: Path, folder: Path, *, positive_class: str | None = None, threshold: float = 0.5
) -> tuple[PackageText, Agreement]:
    """Convert a zoo folder: ``config.json`` beside ``torchscript_model.pt``, or beside one file ``*.pt``.

    A network with one class gives its sigmoid; the other class is called ``not`` that one.

    Parameters
    ----------
    source, folder
        The zoo's folder, and that of the package.
    positive_class
        Name of the positive class; None for the only one, or the second of two.
    threshold
        Threshold of the only level.

    Raises
    ------
    UsageError
        When the positive class has to be named, or is none of the classes.
    InputError
        When config or network cannot be used, or the package does not agree with the network.
    OutputExistsError, StorageError
        When the package cannot be written.
    """
    check_free(folder)
    path = _torchscript_of(source)
    config = read_config(source)
    classes = config.classes if len(config.classes) > 1 else (f"not {config.classes[0]}", config.classes[0])
    positive = chosen_class(classes, positive_class)
    with input_errors(path):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with tempfile.TemporaryDirectory() as scratch:
        network = convert_torchscript(path, config.tile_size, len(config.classes), config.float_input, Path(scratch))
    text = PackageText(
        name=config.name,
        description=f"imported from the TorchScript file {path.name}, sha256 {digest}",
        classes=classes,
        positive_class=positive,
        tile_size=config.tile_size,
        base_mpp=config.base_mpp,
        threshold=threshold,
        intended_use=IntendedUse.RESEARCH,  # as WSInfer and its zoo say of themselves
    )
    return text, place_package(folder, text, [network])


def chosen_class(classes: tuple[str, ...], name: str | None) -> str:
    """The positive class: the one named, or the second of two.

    Raises
    ------
    UsageError
        When there is none of that name, or none is named of more than two.
    """
    if name is None and len(classes) == 2:
        return classes[1]
    if name not in classes:
        what = "which class is the positive one?" if name is None else f"there is no class {name!r}"
        raise UsageError(f"{what} Give --positive-class with one of {list(classes)}")
    return name


def _torchscript_of(source: Path) -> Path:
    if not (source / CONFIG_NAME).is_file():
        raise InputError(f"{source}: holds no {CONFIG_NAME}, so it is no folder of the WSInfer zoo")
    if (source / _ZOO_NAME).is_file():
        return source / _ZOO_NAME
    found = sorted(source.glob("*.pt"))
    if len(found) != 1:
        names = f": {', '.join(path.name for path in found)}" if found else ""
        raise InputError(f"{source}: holds {len(found)} files *.pt{names}; expected one, or one called {_ZOO_NAME}")
    return found[0]
