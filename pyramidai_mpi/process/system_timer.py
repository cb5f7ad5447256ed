"""A clock of the C library's, for what has to happen even while the interpreter stands still.

A call into a library may keep the interpreter's lock: mpi4py's of MPI_Init and MPI_Finalize do. Then no thread of
Python's runs, and no handler of a signal.
"""

from __future__ import annotations

import ctypes

_MONOTONIC = 1
_BY_THREAD = 2  # SIGEV_THREAD: glibc and musl call the function in a thread of their own


class _Event(ctypes.Structure):
    """sigevent of Linux, whose 64 bytes end with what is not used here."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("signal", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("unused", ctypes.c_byte * 32),
    )


class _Times(ctypes.Structure):
    """itimerspec: an interval, of which there is none, and the first time."""

    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("first_s", ctypes.c_long),
        ("first_ns", ctypes.c_long),
    )


class SystemTimer:
    """Calls a function of the C library, which takes one whole number, once a time is over.

    Without effect where the system gives no timer (``ulimit -i``, a sandbox): then only others end what stands still.

    Parameters
    ----------
    function
        Its name: ``_exit`` ends the process with a code, ``alarm`` asks for a signal.
    value
        What it is called with.
    """

    def __init__(self, function: str, value: int) -> None:
        self._library = ctypes.CDLL(None)
        if not hasattr(self._library, "timer_create"):  # glibc before 2.34
            self._library = ctypes.CDLL("librt.so.1")
        address = ctypes.cast(getattr(ctypes.CDLL(None), function), ctypes.c_void_p).value
        event = _Event(value=value, notify=_BY_THREAD, function=address)
        self._timer = ctypes.c_void_p()
        self._is_there = not self._library.timer_create(_MONOTONIC, ctypes.byref(event), ctypes.byref(self._timer))

    def set(self, seconds: float) -> None:
        """Begin to count anew; 0 for not at all."""
        if not self._is_there:
            return
        whole = int(seconds)
        times = _Times(0, 0, whole, round((seconds - whole) * 1e9))
        self._library.timer_settime(self._timer, 0, ctypes.byref(times), None)
