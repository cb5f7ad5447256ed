"""Trying out a slide in a child process: opened, and one pixel of every stored level read."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.process.sandbox import Trial, conduct

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECONDS = 120
_MEMORY_BYTES = 8 << 30


def try_opening(path: Path, reader: str) -> Trial:
    """Start the trial of a slide with a reader, see `opening.open_slide`."""
    module = "pyramidai_mpi.slides.readers.trial"
    return Trial(path, module, [os.fspath(path), reader], seconds=_SECONDS, memory_bytes=_MEMORY_BYTES)


def _open_and_look(arguments: Sequence[str]) -> None:
    from pyramidai_mpi.slides.readers.base import UnreadableRegionError
    from pyramidai_mpi.slides.readers.choice import open_slide

    reader = open_slide(Path(arguments[0]), arguments[1])
    width, height = reader.info.l0_size
    for stored_level in range(len(reader.info.stored_sizes)):
        with contextlib.suppress(UnreadableRegionError):  # tiles that cannot be read are listed later, one by one
            reader.read((width // 2, height // 2), stored_level, (1, 1))


def main() -> None:
    """The child's work."""
    conduct(_open_and_look)
