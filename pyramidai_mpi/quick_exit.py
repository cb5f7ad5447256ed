"""Leaving a process whose other threads still compute.

The C library's `exit` runs the destructors of every library loaded, while other threads go on using what they destroy:
it takes long, prints errors of networks that were well, and may end in a segmentation fault. MPI_Abort calls it.
"""

from __future__ import annotations

import ctypes


def skip_destructors_at_exit() -> None:
    """Let the C library's `exit` end the process, with its code, without the destructors that are registered by now.

    For a process that is about to abort its job, nothing else: MPICH, for one, ends a healthy job by such a destructor.
    What C code has left in its output buffers is written first. Without effect where the C library has no `on_exit`,
    which is not in POSIX: glibc has.
    """
    library = ctypes.CDLL(None)
    try:
        on_exit, flush, leave = library.on_exit, library.fcloseall, library._exit
    except AttributeError:
        return
    # the last one registered runs first; `flush` takes no argument and `leave` one, of the two that each is called with
    on_exit(leave, None)
    on_exit(flush, None)
