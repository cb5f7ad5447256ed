"""Names of files without the folders that they lie in, for what is kept or passed on: folders tell of their owner."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def name_of(path: Path) -> str:
    """A file's or folder's own name; of the current folder and the like, what they are called."""
    return path.name or str(path)


def without_folders(text: str, paths: Iterable[Path]) -> str:
    """A message with the names of these files instead of their paths, and of their folders likewise."""
    folders = {path.parent for path in paths if path.parent.name}
    for folder in sorted(folders, key=lambda folder: len(os.fspath(folder)), reverse=True):
        text = text.replace(f"{folder}{os.sep}", "")
        if folder.is_absolute():  # a relative name may be a part of any word
            text = text.replace(os.fspath(folder), folder.name)
    return text
