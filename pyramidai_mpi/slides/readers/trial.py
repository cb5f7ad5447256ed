"""Trying out a slide in a child process: opened, and one pixel of every stored level read."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from pyramidai_mpi.base.odd_levels import OWN
from pyramidai_mpi.process.sandbox import Trial, run_under_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger(__name__)

_SECONDS = 120
_MEMORY_BYTES = 8 << 30


class SlideTrial(Trial):
    """A trial that says, as a warning, what the opening has to report."""

    def check(self) -> str:
        """See `Trial.check`."""
        report = super().check()
        if report:
            log.warning("%s", report)
        return report


def try_opening(path: Path, reader: str, odd_levels: str = OWN) -> SlideTrial:
    """Start the trial of a slide with a reader, see `choice.open_slide`."""
    module = "pyramidai_mpi.slides.readers.trial"
    return SlideTrial(path, module, [os.fspath(path), reader, odd_levels], seconds=_SECONDS, memory_bytes=_MEMORY_BYTES)


def _open_and_look(arguments: Sequence[str]) -> str:
    from pyramidai_mpi.slides.readers.base import UnreadableRegionError
    from pyramidai_mpi.slides.readers.choice import open_slide

    reports: list[str] = []
    reader = open_slide(Path(arguments[0]), arguments[1], reports.append, odd_levels=arguments[2])
    for stored_level, (size, downsample) in enumerate(
        zip(reader.info.stored_sizes, reader.info.stored_downsamples, strict=True)
    ):
        corner = (round(size[0] // 2 * downsample), round(size[1] // 2 * downsample))
        with contextlib.suppress(UnreadableRegionError):  # tiles that cannot be read are listed later, one by one
            reader.read(corner, stored_level, (1, 1))
    return "".join(reports)


def main() -> None:
    """The child's work."""
    run_under_limits(_open_and_look)
