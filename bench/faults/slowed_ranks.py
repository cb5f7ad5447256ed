"""The real command, slowed down so that kills hit all its steps; it says where it is and what it has looked at.

Started by `bench.faults.chaos` with the words of a command line; the folder for what it says stands in its environment.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

TILE_S = 0.006
STEP_S = 0.02
BATCH = 8
TRACE = "PYRAMIDAI_CHAOS_FOLDER"
_PHASE_NUMBERS = count()


def main() -> None:
    """Slow down what the command line asks for, and do it."""
    from pyramidai_mpi.cli.main import main as pyramidai

    _slow_down_journals()
    if sys.argv[1:3] == ["patches", "extract"]:
        _slow_down_extraction()
    else:
        _slow_down_classification()
    pyramidai(sys.argv[1:])


def _slow_down_classification() -> None:
    from pyramidai_mpi.analyses.classify import SlideClassifier
    from pyramidai_mpi.run import finishing, opening, run, write

    _count_tiles(SlideClassifier)
    _slow_down(run, "describe", phase="opening")
    _slow_down(run, "follow")
    _slow_down(opening, "tissue_of")
    _slow_down(run, "read_journals", phase="resuming")
    _slow_down(finishing, "begin_slide", phase="resuming")
    _slow_down(finishing, "assemble_result", phase="finalising")
    _slow_down(run, "gather_records", "locate_features")
    _slow_down(write, "create_file", "write_slab", "finish_file", "place")


def _slow_down_extraction() -> None:
    from pyramidai_mpi.analyses.extract import CellsOfSlide
    from pyramidai_mpi.base.patch_order import PatchOrder
    from pyramidai_mpi.run import cells, extraction, file_pool
    from pyramidai_mpi.store.patches import writer

    PatchOrder.batch_size = property(lambda _order: BATCH)  # type: ignore[misc]
    _count_tiles(CellsOfSlide)
    _slow_down(extraction, "describe_cells", phase="opening")
    _slow_down(extraction, "follow_cells", "known_cells")
    _slow_down(cells, "tissue_of")
    _slow_down(file_pool, "read_journals", phase="resuming")
    _slow_down(extraction, "begin_slide", phase="resuming")
    _slow_down(extraction, "content_of", phase="finalising")
    _slow_down(writer, "write_patches", "place", "create_table", "seal_file", "flush_file")


def _slow_down_journals() -> None:
    from pyramidai_mpi.run import resume
    from pyramidai_mpi.store.journal.folder import JournalFolder
    from pyramidai_mpi.store.journal.reader import SlideFrames

    real_unlink = os.unlink

    def unlink(path: Any, **named: Any) -> None:
        """One file of a journal after the other goes, so that some may be left."""
        real_unlink(path, **named)
        if Path(path).name.endswith((".tiles", "manifest.json")):
            time.sleep(STEP_S)

    os.unlink = unlink
    _slow_down(resume, "scan_file", "gather_records", "_begin_or_join", "find_frontier")
    _slow_down(SlideFrames, "records")
    _slow_down(JournalFolder, "create", "remove")
    _slow_down(resume.SlideOutput, "remove_journal")
    _slow_down(resume.Journals, "remove_shared")


def _count_tiles(looker: Any) -> None:
    """Each look takes its time, and is written down."""
    analysed = os.open(_folder() / f"analysed-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    real = looker.look

    def look(self: Any, tiles: Any, *others: Any) -> Any:
        time.sleep(TILE_S * len(tiles))
        found = real(self, tiles, *others)
        os.write(analysed, len(tiles).to_bytes(4, "little"))
        return found

    looker.look = look


def _slow_down(owner: Any, *names: str, phase: str = "") -> None:
    for name in names:
        setattr(owner, name, _slow(getattr(owner, name), phase))


def _slow(real: Callable[..., Any], phase: str) -> Callable[..., Any]:
    def slowly(*positional: Any, **named: Any) -> Any:
        if phase:
            (_folder() / f"phase-{phase}-{os.getpid()}-{next(_PHASE_NUMBERS)}").touch()
        time.sleep(STEP_S)
        found = real(*positional, **named)
        time.sleep(STEP_S)
        return found

    return slowly


def _folder() -> Path:
    return Path(os.environ[TRACE])


if __name__ == "__main__":
    main()
