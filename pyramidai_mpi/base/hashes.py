"""Hashes of whole files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import input_errors

if TYPE_CHECKING:
    from pathlib import Path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file as it is now, 64 hexadecimal digits.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    with input_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
