"""A compiled network's bytes as memory that need not stay: mapped from a file, whose pages the system can take back.

OpenVINO packs weights for the processor and keeps those that it was given as well. Given as a mapped file they need no
memory once they are packed: of three InceptionV3 a rank holds 425 MB instead of 680.
"""

from __future__ import annotations

import logging
import mmap
import tempfile
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt

log = logging.getLogger(__name__)

_EVERY_S = 0.005  # an InceptionV3 is read in 0.1 s: at once it would need 85 MB more, so it needs 15


class CompiledNetwork:
    """What an engine's `compiled` gave, ready to load from.

    Parameters
    ----------
    data
        uint8 (n,), writable, as OpenVINO wants it; what is written into it must reach no file.
    mapping
        The map that `data` looks into; None for plain memory.

    Attributes
    ----------
    data
        As given; has to live as long as what was loaded from it.
    """

    def __init__(self, data: npt.NDArray[np.uint8], mapping: mmap.mmap | None = None) -> None:
        self.data = data
        self._mapping = mapping

    @classmethod
    def mapped(cls, descriptor: int, offset: int, n_bytes: int) -> CompiledNetwork:
        """Of an open file, from a multiple of the page size on; writes stay in this process.

        Raises
        ------
        OSError
            When it cannot be mapped.
        """
        mapping = mmap.mmap(descriptor, n_bytes, access=mmap.ACCESS_COPY, offset=offset)
        return cls(np.frombuffer(mapping, np.uint8), mapping)

    @classmethod
    def of(cls, compiled: bytes) -> CompiledNetwork:
        """Of bytes, by way of a temporary file without a name, or in memory where there can be none."""
        try:
            with tempfile.TemporaryFile() as file:
                file.write(compiled)
                file.flush()
                return cls.mapped(file.fileno(), 0, len(compiled))
        except (OSError, ValueError) as error:
            log.info("a compiled network stays in memory, as there is no place for temporary files: %s", error)
            return cls(np.frombuffer(bytearray(compiled), np.uint8))

    @contextmanager
    def while_read(self) -> Iterator[None]:
        """Give its memory back while a library reads it, and at the end; what is asked for again comes from the file.

        What was written into it is lost. OpenVINO, which maps files of its own for reading alone, writes nothing.
        """
        if self._mapping is None:
            yield
            return
        mapping, is_over = self._mapping, Event()

        def let_go() -> None:
            while not is_over.wait(_EVERY_S):
                mapping.madvise(mmap.MADV_DONTNEED)

        thread = Thread(target=let_go, name="let-go", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()
            mapping.madvise(mmap.MADV_DONTNEED)
