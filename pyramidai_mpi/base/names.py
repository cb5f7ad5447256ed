"""Names: of files without the folders that they lie in, which tell of their owner; and those that a word is like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path


def name_of(path: Path) -> str:
    """A file's or folder's own name; of the current folder and the like, what they are called."""
    return path.name or str(path)


def is_utf8(name: str) -> bool:
    """Whether UTF-8 can say it, as pages and tables are written; a name of bytes in another encoding it cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def without_folders(text: str, paths: Iterable[Path]) -> str:
    """A message with the names of these files instead of their paths, and of their folders likewise."""
    folders = {path.parent for path in paths if path.parent.name}
    for folder in sorted(folders, key=lambda folder: len(os.fspath(folder)), reverse=True):
        text = text.replace(f"{folder}{os.sep}", "")
        if folder.is_absolute():  # a relative name may be a part of any word
            text = text.replace(os.fspath(folder), folder.name)
    return text


def nearest_name(word: str, names: Collection[str]) -> str | None:
    """The name that a word was most probably meant to be, whatever its case; None when it is like none."""
    from difflib import get_close_matches

    found = get_close_matches(word.casefold(), names, n=1)
    return found[0] if found else None
