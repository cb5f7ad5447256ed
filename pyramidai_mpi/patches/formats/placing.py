"""Giving an imported file of patches its name."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

import pyramidai_mpi
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.patches.writer import write_patches
from pyramidai_mpi.store.results.result import Execution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.store.patches.writer import PatchContent

_NO_RANKS = np.zeros(0, [("rank", "<i4")])


def place_imported(
    target: Path, content: PatchContent, facts: Mapping[str, str | int | float], inputs: Sequence[Path], overwrite: bool
) -> None:
    """Write a file of patches under a temporary name, and give it its own.

    Parameters
    ----------
    facts
        How it came about.
    inputs
        What it is made of, which is never replaced.

    Raises
    ------
    OutputExistsError, StorageError
        When the name is taken, or cannot be written.
    InputError
        When what it is made of cannot be read.
    """
    with placed(target, overwrite=overwrite, inputs=inputs) as temporary:
        write_patches(temporary, content, Execution(facts, _NO_RANKS), datetime.now(UTC), pyramidai_mpi.__version__)
