"""Pyramidal analysis of gigapixel images with MPI work stealing.

`analyse` analyses a slide, `open_result` opens what an analysis wrote; both give an `api.OpenResult`, which a notebook
shows as a table and a picture. `open_explanation` opens explained tiles. What they raise is in `errors`. The program on
the command line is ``pyramidai``.

Importing the package starts neither MPI nor any heavy library; using one of these does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.libraries import silence_libraries

if TYPE_CHECKING:
    from pyramidai_mpi.api import analyse, explain_tiles, open_explanation, open_result
    from pyramidai_mpi.base import python_errors as errors
    from pyramidai_mpi.patches.database import open_patches
    from pyramidai_mpi.patches.dataset import PatchDataset
    from pyramidai_mpi.training.patch_stream import PatchStream as PatchStream

silence_libraries()  # here, as every process of ours comes this way before any library is loaded

__version__ = "0.1.0"

__all__ = [
    "PatchDataset",
    "__version__",
    "analyse",
    "errors",
    "explain_tiles",
    "open_explanation",
    "open_patches",
    "open_result",
]

_MODULES = {
    "analyse": "api",
    "explain_tiles": "api",
    "open_explanation": "api",
    "open_result": "api",
    "open_patches": "patches.database",
    "PatchDataset": "patches.dataset",
    "PatchStream": "training.patch_stream",
}
"""Where each name is, to be loaded when it is asked for. The last loads torch, which not everybody has, so ``import *``
leaves it out."""


def __getattr__(name: str) -> Any:
    if name == "errors":
        return importlib.import_module("pyramidai_mpi.base.python_errors")
    if name in _MODULES:
        return getattr(importlib.import_module(f"pyramidai_mpi.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
