"""A slide read for many threads: by a few of its own, each with a reader for itself.

So however many connections ask at once, no more than these decode, and memory is that of these alone.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from pyramidai_mpi.slides.readers.choice import open_slide

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.slides.readers.base import SlideReader

_MOST = 3
"""Each reader keeps up to some 80 MB of decoded tiles."""

_Read = TypeVar("_Read")


class SlideReaders:
    """Readers of one slide.

    Parameters
    ----------
    path
        The slide.

    Raises
    ------
    InputError
        When it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        first = open_slide(path)
        self.info = first.info
        self._path = path
        self._unused = [first]
        self._all = [first]
        self._changing = threading.Lock()
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(min(_MOST, os.cpu_count() or 1), "slide")

    def read(self, work: Callable[[SlideReader], _Read]) -> _Read:
        """What comes of some work with a reader, which is this work's alone meanwhile."""
        return self._threads.submit(lambda: work(self._reader())).result()

    def close(self) -> None:
        """Release the file, once what was asked for has been read."""
        self._threads.shutdown()
        for reader in self._all:
            reader.close()

    def _reader(self) -> SlideReader:
        """The reader of the thread that asks."""
        if not hasattr(self._own, "reader"):
            with self._changing:
                if not self._unused:
                    self._unused.append(open_slide(self._path, known=self.info))
                    self._all.append(self._unused[-1])
                self._own.reader = self._unused.pop()
        reader: SlideReader = self._own.reader
        return reader
