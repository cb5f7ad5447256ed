"""Pyramidal analysis of gigapixel images with MPI work stealing.

Importing the package starts neither MPI nor any heavy library; using `open_result` or `analyse` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.libraries import silence_libraries

if TYPE_CHECKING:
    from pyramidai_mpi.api import analyse, open_result

silence_libraries()  # here, as every process of ours comes this way before any library is loaded

__version__ = "0.1.0"

__all__ = ["__version__", "analyse", "open_result"]


def __getattr__(name: str) -> Any:
    if name in {"analyse", "open_result"}:
        from pyramidai_mpi import api as notebook

        return getattr(notebook, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
