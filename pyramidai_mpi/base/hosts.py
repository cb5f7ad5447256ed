"""What the hosts of a run share: by default all files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

IF_APART = "give --own-disks where hosts share no files"
"""What commands that have the option say where a folder is not the same for all."""


@dataclass(frozen=True)
class Hosts:
    """Which files the hosts of a run see alike; the result does not depend on it.

    Attributes
    ----------
    own_disks
        They share no files: each has slides, model and journals on a disk of its own, and the result is rank 0's.
    send_slide
        Nor have they the slides: what a host lacks is sent there from rank 0's.
    scratch
        Folder for what is sent; None takes the system's for temporary files.

    Raises
    ------
    UsageError
        When a folder is named and nothing is to be sent.
    """

    own_disks: bool = False
    send_slide: bool = False
    scratch: Path | None = None

    def __post_init__(self) -> None:
        if self.scratch is not None and not self.send_slide:
            raise UsageError(f"--scratch {self.scratch}: is for slides that are sent; give --send-slide too")

    @property
    def are_apart(self) -> bool:
        """Whether they share no files."""
        return self.own_disks or self.send_slide
