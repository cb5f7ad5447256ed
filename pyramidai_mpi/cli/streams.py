"""The standard streams of a command: who asked for output learns when it cannot be had, and that is nobody's bug."""

from __future__ import annotations

import errno
import io
import os
import sys

from pyramidai_mpi.base.errors import StorageError

_STDOUT = 1


class ReaderGoneError(StorageError):
    """Whoever read standard output wants no more of it, as ``head`` does."""


class _Stream(io.TextIOWrapper):
    """A standard stream whose failure is met once; what is written later goes nowhere, also at the process's end."""

    def write(self, text: str) -> int:
        if text == "":
            return 0  # how click finds out what kind of stream it has; it swallows what that raises
        try:
            return super().write(text)
        except OSError as error:
            self._fail(error)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        self._tell(error)

    def _tell(self, error: OSError) -> None:
        """Nobody can be told of an error of standard error, but by the exit code of what was to be said."""


class _Stdout(_Stream):
    def _tell(self, error: OSError) -> None:
        if error.errno == errno.EPIPE:
            raise ReaderGoneError("standard output: whoever read it has closed it") from error
        raise StorageError(f"standard output: cannot be written: {error.strerror or error}") from error


def prepare_streams() -> None:
    """Have standard output and standard error fail in one line, or not at all, and print what is no text.

    A stream that is closed is opened on nothing: the next file of the run would get its number, and the messages of a
    library in C. Python's own has no output then; writing to ours fails as it does in C.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # the lowest number that is free
    for name, kind, descriptor in (("stdout", _Stdout, _STDOUT), ("stderr", _Stream, _STDOUT + 1)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(descriptor, "w", closefd=False)  # noqa: SIM115 - for the life of the process
            setattr(sys, f"__{name}__", stream)
        if isinstance(stream, io.TextIOWrapper):
            replaced = kind(
                stream.buffer,
                encoding=stream.encoding,
                errors="backslashreplace",  # a path may hold bytes that are no text
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, replaced)
