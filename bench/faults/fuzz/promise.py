"""What the program promises of any input from outside, and whether it was kept of one.

It is read, or refused by an error of the program's own in one line of sensible length, whose exit code blames the
input; in bounded memory and processor time; nothing is written outside a folder, nobody called, no process started.
"""

from __future__ import annotations

import logging
import os
import resource
import shutil
import sys
import time
import traceback
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import PyramidError, machine_failure

if TYPE_CHECKING:
    from bench.faults.fuzz.target import Target

_MOST_LETTERS = 2000
_CHANGES = {
    "os.chmod": 1, "os.chown": 1, "os.link": 2, "os.mkdir": 1, "os.remove": 1, "os.rename": 2, "os.rmdir": 1,
    "os.symlink": 2, "os.truncate": 1, "os.utime": 1, "shutil.rmtree": 1,
}  # fmt: skip
"""Python's audit events of changes to the disk, and how many paths each names first."""
_STARTS = frozenset({"os.exec", "os.posix_spawn", "os.system", "subprocess.Popen"})
_CALLS = frozenset({"socket.bind", "socket.connect", "socket.sendto"})


@dataclass(frozen=True)
class Broken:
    """A promise that was not kept.

    Attributes
    ----------
    what
        In a line, the same for all inputs of the same fault: the error's class and the line of the program.
    details
        The traceback, or what else there is to know.
    """

    what: str
    details: str


class Watch:
    """Sees what this process does outside a folder, from its making on; there is one a process."""

    def __init__(self) -> None:
        self._folder = ""
        self._may_start = False
        self._seen: list[str] = []
        sys.addaudithook(self._hear)

    def begin(self, folder: Path, *, may_start: bool) -> None:
        """Watch from now on."""
        self._seen = []
        self._folder, self._may_start = os.fspath(folder), may_start

    def end(self) -> list[str]:
        """What was done since that should not have been."""
        self._folder = ""
        return self._seen

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._folder:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                self._check(event, path)
        elif event in _CHANGES:
            for path in arguments[: _CHANGES[event]]:
                self._check(event, path)
        elif event in _CALLS or (event in _STARTS and not self._may_start):
            self._seen.append(f"{event} {arguments!r:.200}")

    def _check(self, event: str, path: object) -> None:
        if not isinstance(path, str | bytes | os.PathLike):
            return  # an open file
        place = os.path.realpath(os.fsdecode(path))
        is_inside = place == self._folder or place.startswith(f"{self._folder}{os.sep}")
        if not is_inside and place != os.devnull and "__pycache__" not in place:
            self._seen.append(f"{event} {place!r:.200}")


class Promises:
    """Reads inputs of one kind, one after the other, and says which promise was not kept.

    Parameters
    ----------
    target
        The kind.
    folder
        An empty folder, for nothing else.
    """

    def __init__(self, target: Target, folder: Path) -> None:
        self._target = target
        self._home = folder.resolve()
        self._number = 0
        self._watch = Watch()
        target.prepare()

    @staticmethod
    def silence() -> None:
        """Let nothing be said of all that is wrong with what is read; for the whole process."""
        warnings.simplefilter("ignore")
        logging.disable()

    def limit_memory(self) -> None:
        """Allow no more addresses than the kind says, beyond those that libraries have now; for the whole process."""
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        limit = held + (self._target.memory_mib << 20)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def broken_by(self, data: bytes) -> Broken | None:
        """Read an input; None when all was well."""
        # a name of its own for each: what is remembered of a file by its name and time belongs to another one
        self._number += 1
        folder = self._home / f"input{self._number}"
        folder.mkdir()
        before = time.process_time()
        self._watch.begin(folder, may_start=self._target.may_start)
        try:
            self._target.read(data, folder)
            found = None
        except RecursionError as error:
            found = _unforeseen(error)
        except Exception as error:
            found = self._judged(error)
        outside = self._watch.end()
        took = time.process_time() - before
        shutil.rmtree(folder, ignore_errors=True)
        if outside:
            found = Broken(f"outside its folder: {outside[0].split()[0]}", "\n".join(outside))
        elif left := os.listdir(self._home):  # noqa: PTH208  (a thousand times a second)
            found = Broken("outside its folder: a file beside it", repr(left))
        elif found is None and took > self._target.seconds:
            found = Broken("takes too long", f"{took:.1f} s of processor time")
        return found

    def _judged(self, error: Exception) -> Broken | None:
        if not isinstance(error, PyramidError):
            want = machine_failure(error)
            return _unforeseen(error, "wants memory: " if want is not None else "")
        if error.exit_code not in self._target.refusals:
            return _unforeseen(error, f"blames with {int(error.exit_code)}: ")
        if len(str(error)) > _MOST_LETTERS:  # line breaks are taken out where it is shown
            return _unforeseen(error, "more than a line: ")
        return None


def _unforeseen(error: BaseException, how: str = "") -> Broken:
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if f"{os.sep}pyramidai_mpi{os.sep}" in frame.filename] or frames
    place = own[-1]
    module = place.filename.rpartition(f"pyramidai_mpi{os.sep}")[2]
    lines = traceback.format_exception(error)
    return Broken(f"{how}{type(error).__name__} at {module}:{place.name}", "".join(lines[:1] + lines[-12:])[-4000:])
