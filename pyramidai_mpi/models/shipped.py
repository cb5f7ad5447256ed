"""The models that come with the package, and models by their names."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.names import nearest_name

_DEFAULT = "small"
_DESCRIPTION = "model.yaml"


def default_model() -> Path:
    """Folder of the shipped demonstration model, in a checkout or wherever the installer put it.

    Raises
    ------
    InputError
        When the installation lacks it.
    """
    folder = shipped_models().get(_DEFAULT)
    if folder is None:
        raise InputError(f"the shipped model {_DEFAULT!r} is not installed; name a model folder with --model")
    return folder


def find_model(asked: Path | None, *, may_be_elsewhere: bool = False) -> Path:
    """Folder of the model that is asked for by its folder, or by the name of a shipped one; None: the default.

    A folder of that name goes first. What has a folder in it is a path, and whoever opens it says what is wrong there.

    Parameters
    ----------
    may_be_elsewhere
        Whether it may be a folder that this host lacks.

    Raises
    ------
    InputError
        There is neither a folder nor a shipped model of that name.
    """
    if asked is None:
        return default_model()
    name = os.fspath(asked)
    if os.sep in name or os.path.lexists(asked):
        return asked
    shipped = shipped_models()
    if name not in shipped and may_be_elsewhere:
        return asked
    if name not in shipped:
        near = nearest_name(name, shipped)
        meant = f"did you mean {near!r}?" if near else "see: pyramidai models list"
        raise InputError(f"{name}: is neither a folder of a model nor the name of a shipped one; {meant}")
    return shipped[name]


def shipped_models() -> dict[str, Path]:
    """Folders of all models that are installed with the package, by their names."""
    beside_package = Path(__file__).resolve().parents[2] / "models"
    here = {path.parent.name: path.parent.resolve() for path in sorted(beside_package.glob(f"*/{_DESCRIPTION}"))}
    return here or _installed()


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of a shipped model, which need not be installed."""
    return folder.resolve() in shipped_models().values()


def _installed() -> dict[str, Path]:
    try:
        listed = files("pyramidai-mpi") or []
    except PackageNotFoundError:
        listed = []
    found = {}
    for path in listed:
        if path.parts[-4:-2] == ("pyramidai_mpi", "models") and path.name == _DESCRIPTION:
            located = Path(str(path.locate())).resolve()
            if located.is_file():  # `pip install --target` moves what it recorded
                found[located.parent.name] = located.parent
    return found
