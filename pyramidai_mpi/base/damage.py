"""What libraries raise of files that are damaged or made up, each of whichever kind its own lines happen to meet."""

from __future__ import annotations

import struct
import zipfile
import zlib
from tokenize import TokenError

DAMAGE: tuple[type[Exception], ...] = (
    OSError, ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError, AssertionError,
    EOFError, SyntaxError, BufferError, struct.error, zlib.error, zipfile.BadZipFile, TokenError,
)  # fmt: skip
"""To be caught around what a library does alone, never around lines of this program. A want of memory is none of it."""


def damage_and(*own: type[Exception]) -> tuple[type[Exception], ...]:
    """The same, and a library's own kinds of errors."""
    return (*DAMAGE, *own)
