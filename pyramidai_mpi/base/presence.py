"""Whether something has a name: an answer, or an error where the file system gives none.

``os.path.lexists`` and, from Python 3.14 on, ``Path.exists`` say no as well where a disk fails or a handle of NFS is
stale. What is then begun anew, in place of what is there, was lost.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import input_errors

if TYPE_CHECKING:
    from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether something has this name, be it a link to nothing.

    Raises
    ------
    InputError, StorageError
        Nobody knows: as `input_errors`.
    """
    with input_errors(path):
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return False
    return True
