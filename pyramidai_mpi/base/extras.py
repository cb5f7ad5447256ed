"""Libraries that only some commands need, by the extra that installs them; asked for before the work."""

from __future__ import annotations

import importlib.util

from pyramidai_mpi.base.errors import UsageError

EXTRAS = {
    "classify": ("sklearn", "skops"),
    "openvino": ("openvino",),
    "pandas": ("pandas",),
    "plots": ("matplotlib",),
    "timm": ("timm", "torch", "onnxscript"),
    "train": ("torch", "onnxscript"),
}
"""Names as they are imported. torch asks for onnxscript when it writes a network, which is after a training."""


def require_extra(extra: str, what: str) -> None:
    """See that the libraries of an extra are installed, without loading them.

    Parameters
    ----------
    extra
        One of `EXTRAS`.
    what
        What needs them: ``training``, ``--plots``.

    Raises
    ------
    UsageError
        Names those that are missing, and how to install them.
    """
    missing = [name for name in EXTRAS[extra] if not _is_installed(name)]
    if missing:
        raise UsageError(f"{what} needs {' and '.join(missing)}: pip install 'pyramidai-mpi[{extra}]'")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # its place in sys.modules is taken by nothing
        return False
