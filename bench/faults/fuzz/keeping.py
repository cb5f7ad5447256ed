"""The part of a corpus that is kept with the tests: few small inputs that reach, line by line, what all reach."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.faults.fuzz.kinds import target_of
from bench.faults.fuzz.promise import Promises

if TYPE_CHECKING:
    from types import FrameType

_Step = tuple[str, int, int]
_OWN = "pyramidai_mpi"
_LARGE_BYTES = 4096
_MOST_READ = 500


def keep(kind: str, corpus: Path, folder: Path, most: int) -> None:
    """Copy inputs of a corpus to a folder, those that reach most first, until all or so many are there.

    What is in the folder already stays there, and counts.
    """
    target = target_of(kind)
    folder.mkdir(parents=True, exist_ok=True)
    there = sorted(folder.iterdir())
    # read at once: whoever fuzzes meanwhile replaces files by smaller ones
    waiting = {path: path.read_bytes() for path in corpus.iterdir() if path.exists()}
    smallest = sorted(waiting, key=lambda path: len(waiting[path]))[:_MOST_READ]
    content = {path: path.read_bytes() for path in there} | {path: waiting[path] for path in smallest}
    reached: dict[Path, set[_Step]] = {}
    with tempfile.TemporaryDirectory() as home:
        promises = Promises(target, Path(home))
        promises.silence()
        for path, data in content.items():
            steps = _Steps()
            with steps:
                broken = promises.broken_by(data)
            if broken is None:
                reached[path] = steps.found
    known: set[_Step] = set().union(*(reached.pop(path, set()) for path in there))
    kept = len(there)
    while reached and kept < most:
        # a large file has to reach more
        best = max(reached, key=lambda path: len(reached[path] - known) / max(len(content[path]) / _LARGE_BYTES, 1))
        new = reached.pop(best) - known
        if not new:
            break
        known |= new
        kept += 1
        (folder / best.name.removeprefix("seed-")[:24]).write_bytes(content[best])
    print(f"{kind}: {kept} files, {sum(path.stat().st_size for path in folder.iterdir())} bytes, {len(known)} steps")


class _Steps:
    """Steps from line to line of the program's modules, within the context."""

    def __init__(self) -> None:
        self.found: set[_Step] = set()
        self._last = 0

    def __enter__(self) -> None:
        sys.settrace(self._call)

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        return self._line if _OWN in frame.f_code.co_filename else None

    def _line(self, frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line":
            self.found.add((frame.f_code.co_filename, self._last, frame.f_lineno))
            self._last = frame.f_lineno
        return self._line
