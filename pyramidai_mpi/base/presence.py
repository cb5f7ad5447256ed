"""Whether something has a name: an answer, or an error where the file system gives none.

``os.path.lexists`` and, from Python 3.14 on, ``Path.exists`` say no as well where a disk fails or a handle of NFS is
stale. Whoever then begins anew under that name loses what is there.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path


def is_there(path: Path) -> bool:
    """Whether something has this name, be it a link to nothing.

    Raises
    ------
    StorageError
        The system does not say.
    """
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the latter: no file can have this name
        return False
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(f"{path}: cannot be looked for: {reason}; see to the disk and your rights") from error
    return True
