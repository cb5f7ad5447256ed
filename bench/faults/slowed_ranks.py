"""The real command, slowed down so that faults hit all its steps; it says where it is and what it has looked at.

Started by `bench.faults.campaign` with the words of a command line. The folder for what it says stands in its
environment: ``phase-PHASE-PID-N`` when a process enters a phase, ``now-PID`` with the phase that it is in, and
``done-PID`` with the number of pieces of each batch that it has done, four bytes each. Where the environment says so as
well, the disk fails one rank from some phase on (`surroundings.c` of the campaign, preloaded).
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.cli.launcher import launched_rank, prepare_environment

if TYPE_CHECKING:
    from collections.abc import Callable

TILE_S = 0.004
"""Of a tile; of a piece of an explanation, which is more, eight times that."""
STEP_S = 0.02
BATCH = 8
TRACE = "PYRAMIDAI_CHAOS_FOLDER"
ARMED = "PYRAMIDAI_CHAOS_DISK"
"""JSON: the rank whose disk fails, the phase and its how manieth, the call from then on, and the errno."""
_PHASE_NUMBERS = count()
_PHASES: dict[str, int] = {}
_NOW = [""]
_LOOKING = [False]
_TRAININGS = ("train", "train-slides", "train-whole")


def main() -> None:
    """Slow down what the command line asks for, and do it."""
    prepare_environment()  # before torch, as the program does
    from pyramidai_mpi.cli.main import main as pyramidai

    words = sys.argv[1:]
    _slow_down_disk()
    if words[0] in _TRAININGS:
        _slow_down_training()
    else:
        _slow_down_journals()
    if words[:2] == ["patches", "extract"]:
        _slow_down_extraction()
    elif words[0] == "explain":
        _slow_down_explaining()
    elif words[0] == "run":
        _slow_down_classification()
    pyramidai(words)


def _slow_down_classification() -> None:
    from pyramidai_mpi.analyses.classify import SlideClassifier
    from pyramidai_mpi.analyses.dense import SlideDense
    from pyramidai_mpi.export import formats
    from pyramidai_mpi.run import finishing, opening, run, write

    for looker in (SlideClassifier, SlideDense):
        _count_tiles(looker, TILE_S)
    _slow_down(run, "describe", phase="opening")
    _slow_down(run, "follow")
    _slow_down(opening, "tissue_of")
    _slow_down(run, "read_journals", phase="resuming")
    _slow_down(finishing, "begin_slide", phase="resuming")
    _slow_down(finishing, "assemble_result", phase="finalising")
    _slow_down(run, "gather_records", "locate_features")
    _slow_down(write, "create_file", "write_slab", "finish_file", "place")
    _slow_down(formats, "make", phase="exporting")


def _slow_down_extraction() -> None:
    from pyramidai_mpi.analyses.extract import CellsOfSlide
    from pyramidai_mpi.base.patch_order import PatchOrder
    from pyramidai_mpi.run import cells, extraction, file_pool
    from pyramidai_mpi.store.patches import writer

    PatchOrder.batch_size = property(lambda _order: BATCH)  # type: ignore[misc]
    _count_tiles(CellsOfSlide, TILE_S)
    _slow_down(extraction, "describe_cells", phase="opening")
    _slow_down(extraction, "follow_cells", "known_cells")
    _slow_down(cells, "tissue_of")
    _slow_down(file_pool, "read_journals", phase="resuming")
    _slow_down(extraction, "begin_slide", phase="resuming")
    _slow_down(extraction, "content_of", phase="finalising")
    _slow_down(writer, "write_patches", "place", "create_table", "seal_file", "flush_file")


def _slow_down_explaining() -> None:
    from pyramidai_mpi.analyses.explain import UnitsOfSlide
    from pyramidai_mpi.run import explaining, file_pool

    _count_tiles(UnitsOfSlide, 8 * TILE_S)
    _slow_down(explaining, "load_explained", phase="opening")
    _slow_down(file_pool, "read_journals", phase="resuming")
    _slow_down(explaining, "begin_slide", phase="resuming")
    _slow_down(explaining, "explanation_of", phase="finalising")
    _slow_down(explaining, "place_explanation")


def _slow_down_training() -> None:
    from pyramidai_mpi.models import write
    from pyramidai_mpi.ranks import unit_pool
    from pyramidai_mpi.training import trained_package
    from pyramidai_mpi.training.exact.checkpoint import Checkpoint
    from pyramidai_mpi.training.exact.loop import ExactTraining
    from pyramidai_mpi.training.slides import output
    from pyramidai_mpi.training.whole import training

    _slow_down(ExactTraining, "begin", phase="opening")
    _slow_down(Checkpoint, "load", phase="resuming")
    _slow_down(Checkpoint, "save")
    _slow_down(trained_package, "placed_folder", phase="finalising")
    _slow_down(output, "placed_folder", phase="finalising")
    _slow_down(training, "write_segmentation_package", phase="finalising")
    _slow_down(trained_package, "write_package")
    _slow_down(output, "write_package")
    _slow_down(write, "placed_folder")
    _count_units_of_steps(ExactTraining, unit_pool._Doing)


def _slow_down_journals() -> None:
    from pyramidai_mpi.run import resume
    from pyramidai_mpi.store.journal.folder import JournalFolder
    from pyramidai_mpi.store.journal.reader import SlideFrames

    _slow_down(resume, "scan_file", "gather_records", "_begin_or_join", "find_frontier")
    _slow_down(SlideFrames, "records")
    _slow_down(JournalFolder, "create")
    _slow_down(JournalFolder, "remove", phase="removing")
    _slow_down(resume.SlideOutput, "remove_journal")
    _slow_down(resume.Journals, "remove_shared", phase="removing")


def _slow_down_disk() -> None:
    """One file of a journal after the other goes, so that some may be left."""
    real_unlink = os.unlink

    def unlink(path: Any, **named: Any) -> None:
        real_unlink(path, **named)
        if Path(path).name.endswith((".tiles", "manifest.json")):
            time.sleep(STEP_S)

    os.unlink = unlink


def _count_tiles(looker: Any, seconds: float) -> None:
    """Each look takes its time, and is written down; not those that it takes itself."""
    tell = _teller()
    real = looker.look

    def look(self: Any, tiles: Any, *others: Any) -> Any:
        if _LOOKING[0]:
            return real(self, tiles, *others)
        if _NOW[0] != "running":
            _enter("running")
        time.sleep(seconds * len(tiles))
        _LOOKING[0] = True  # by one thread alone
        try:
            found = real(self, tiles, *others)
        finally:
            _LOOKING[0] = False
        tell(len(tiles))
        return found

    looker.look = look


def _count_units_of_steps(training: Any, doing: Any) -> None:
    """Units that steps are of, each of which takes its time; not those that only look how good the networks are."""
    tell = _teller()
    real_step, real_do = training.step_with, doing.do
    in_step = [False]

    def step_with(self: Any, *given: Any) -> Any:
        if _NOW[0] != "running":
            _enter("running")
        in_step[0] = True
        try:
            return real_step(self, *given)
        finally:
            in_step[0] = False

    def do(self: Any, number: int) -> None:
        time.sleep(STEP_S)
        real_do(self, number)
        if in_step[0]:
            tell(1)

    training.step_with, doing.do = step_with, do


def _teller() -> Callable[[int], None]:
    done = os.open(_folder() / f"done-{os.getpid()}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    return lambda n: (os.write(done, n.to_bytes(4, "little")), None)[1]


def _slow_down(owner: Any, *names: str, phase: str = "") -> None:
    for name in names:
        setattr(owner, name, _slow(getattr(owner, name), phase))


def _slow(real: Callable[..., Any], phase: str) -> Callable[..., Any]:
    def slowly(*positional: Any, **named: Any) -> Any:
        if phase:
            _enter(phase)
        time.sleep(STEP_S)
        found = real(*positional, **named)
        time.sleep(STEP_S)
        return found

    return slowly


def _enter(phase: str) -> None:
    """Say which phase this process enters, and let its disk fail from there on, where that is asked for."""
    _NOW[0] = phase
    (_folder() / f"phase-{phase}-{os.getpid()}-{next(_PHASE_NUMBERS)}").touch()
    (_folder() / f"now-{os.getpid()}").write_text(phase)
    _PHASES[phase] = _PHASES.get(phase, 0) + 1
    armed = json.loads(os.environ.get(ARMED, "null"))
    if armed and (armed["rank"], armed["phase"]) == (launched_rank() or 0, phase) and armed["nth"] == _PHASES[phase]:
        ctypes.CDLL(None).disk_arm(
            ctypes.c_long(armed["call"]), ctypes.c_long(armed["last"]), ctypes.c_int(armed["errno"])
        )


def _folder() -> Path:
    return Path(os.environ[TRACE])


if __name__ == "__main__":
    main()
