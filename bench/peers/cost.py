"""What a command takes with all its children: seconds, processor seconds, memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_EVERY_S = 0.25


@dataclass(frozen=True)
class Cost:
    """What one command took.

    Attributes
    ----------
    launched_s
        When it was launched, seconds since the epoch.
    wall_s
        From launch to exit.
    cpu_s
        Processor seconds of it and of its children that it waited for.
    peak_mb
        The most that all of its processes held at one time, shared pages counted once (PSS), 10^6 bytes; looked at
        every quarter of a second.
    """

    launched_s: float
    wall_s: float
    cpu_s: float
    peak_mb: float


class CommandFailed(Exception):  # noqa: N818 - said as it reads
    """A command ended with an error; the message has the end of what it said."""


def run_command(
    words: Sequence[str | Path], *, folder: Path, environment: dict[str, str] | None = None, limit_s: float = 3600
) -> tuple[Cost, str]:
    """Run a command in `folder`; what it took, and its stdout.

    Raises
    ------
    CommandFailed
        It ended with another exit code than 0, or did not end in `limit_s` seconds.
    """
    peak = 0.0
    ended = threading.Event()
    launched, started = time.time(), time.perf_counter()
    with subprocess.Popen(
        [str(word) for word in words],
        cwd=folder,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:

        def watch() -> None:
            nonlocal peak
            while not ended.wait(_EVERY_S):
                peak = max(peak, _held_by_tree(process.pid))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        said: dict[str, str] = {}
        readers = [
            threading.Thread(target=lambda name=name, pipe=pipe: said.update({name: pipe.read()}))
            for name, pipe in (("stdout", process.stdout), ("stderr", process.stderr))
        ]
        for reader in readers:
            reader.start()
        late = threading.Timer(limit_s, lambda: os.killpg(process.pid, 9))
        late.start()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        late.cancel()
        ended.set()
        watcher.join()
        for reader in readers:
            reader.join()
    if process.returncode:
        end = said["stdout"][-300:] + said["stderr"][-1700:]
        raise CommandFailed(f"{' '.join(map(str, words[:4]))} ... ended with {process.returncode}:\n{end}")
    return Cost(launched, wall, used.ru_utime + used.ru_stime, peak / 1e6), said["stdout"]


def descendants(root: int) -> set[int]:
    """A process and all that come from it: launchers give ranks sessions of their own, and stay their parents."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            with suppress(OSError, IndexError, ValueError):
                # after the name, which may hold anything: state, parent
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found, new = {root}, {root}
    while new:
        new = {pid for pid, parent in parents.items() if parent in new} - found
        found |= new
    return found


def _held_by_tree(root: int) -> int:
    """Bytes (PSS) of a process and its descendants."""
    held = 0
    for pid in descendants(root):
        with suppress(OSError, IndexError, ValueError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            held += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
    return held
