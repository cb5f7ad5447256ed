"""Many files of patches, open as they are needed: by any number of threads, and by forked processes."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.database import OpenPatches
from pyramidai_mpi.slides.readers.kept_level import DecodedTiles

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_OPEN = 128
"""Files that are open at once; processes may have 1024 as a rule."""


class OpenFiles:
    """Files of patches by number, which share one place for decoded tiles.

    Those used last stay open. One that a thread still reads from is closed when that is through with it.

    Parameters
    ----------
    paths, digests
        The files, and what their digests are.
    """

    def __init__(self, paths: Sequence[Path], digests: Sequence[str]) -> None:
        self._paths, self._digests = list(paths), list(digests)
        self._decoded = DecodedTiles()
        self._open: OrderedDict[int, OpenPatches] = OrderedDict()
        self._pid, self._lock = os.getpid(), threading.Lock()

    def __getitem__(self, number: int) -> OpenPatches:
        """A file.

        Raises
        ------
        InputError
            When it cannot be read, or holds other patches than it did.
        """
        if self._pid != os.getpid():  # of a fork, whose parent's threads may have held the lock
            self._pid, self._lock = os.getpid(), threading.Lock()
        with self._lock:
            if number in self._open:
                self._open.move_to_end(number)
                return self._open[number]
            path = self._paths[number]
            opened = OpenPatches(path, None, self._decoded)
            if opened.digest != self._digests[number]:
                raise InputError(f"{path}: holds other patches than when the data set was made; make it anew")
            self._open[number] = opened
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
            return opened

    def __getstate__(self) -> tuple[list[Path], list[str]]:
        return [path.absolute() for path in self._paths], self._digests  # another process opens them anew

    def __setstate__(self, state: tuple[list[Path], list[str]]) -> None:
        self.__init__(*state)  # type: ignore[misc]
