"""Telling model packages, and choosing the parser of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.package import ModelPackage, load_package
from pyramidai_mpi.models.wsinfer import CONFIG_NAME, load_wsinfer

if TYPE_CHECKING:
    from pathlib import Path


def is_package(folder: Path) -> bool:
    """Whether a folder looks like a model package, ours or WSInfer's."""
    return (folder / YAML_NAME).is_file() or (folder / CONFIG_NAME).is_file()


def read_package(folder: Path, *, check_files: bool = True) -> ModelPackage:
    """Read a model package, ours or WSInfer's, and check its description against the files beside it.

    Parameters
    ----------
    folder
        The package's folder.
    check_files
        Whether to compare the networks' files with the hashes in the description; WSInfer's has none.

    Raises
    ------
    InputError
        When anything in it does not fit.
    """
    is_wsinfer = (folder / CONFIG_NAME).is_file() and not (folder / YAML_NAME).is_file()
    return load_wsinfer(folder) if is_wsinfer else load_package(folder, check_files=check_files)
