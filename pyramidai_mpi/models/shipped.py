"""The models that come with the package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from pyramidai_mpi.base.errors import InputError

_DEFAULT = "small"


def default_model() -> Path:
    """Folder of the shipped demonstration model, in a checkout or wherever the installer put it.

    Raises
    ------
    InputError
        When the installation lacks it.
    """
    folder = _shipped()
    if folder is None:
        raise InputError(f"the shipped model {_DEFAULT!r} is not installed; name a model folder with --model")
    return folder


def is_shipped(folder: Path) -> bool:
    """Whether a folder is that of the shipped model, which need not be installed."""
    return folder.resolve() == _shipped()


def _shipped() -> Path | None:
    beside_package = Path(__file__).resolve().parents[2] / "models" / _DEFAULT
    if (beside_package / "model.yaml").is_file():
        return beside_package.resolve()
    try:
        installed = files("pyramidai-mpi") or []
    except PackageNotFoundError:
        installed = []
    for path in installed:
        if path.parts[-3:] == ("models", _DEFAULT, "model.yaml"):
            located = Path(str(path.locate())).resolve()
            if located.is_file():  # `pip install --target` moves what it recorded
                return located.parent
    return None
