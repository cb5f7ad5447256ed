"""What nobody foresaw in one slide of a cohort ends that slide, with its traceback, and no other."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import mpirun
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.faults.conftest import THRESHOLDS
from tests.packages import write_package

pytestmark = pytest.mark.mpi

STEMS = ("first", "victim", "last")

PLACES = {
    "describing it": ("run.opening", "tissue_of", "one.source.path", 1),
    "following it": ("run.opening", "rule_of", "one.source.path", 2),
    "beginning it": ("run.finishing", "begin_slide", "one.slide.path", 1),
    "its third batch": ("analyses.classify", "SlideClassifier.look", "one._source._pyramid.reader.info.path", 3),
    "reading ahead": ("analyses.classify", "SlideClassifier.prepare", "one._source._pyramid.reader.info.path", 1),
    "putting it together": ("run.finishing", "assemble_result", "one.slide.path", 1),
    "writing it": ("run.finishing", "Finisher.end_of", "one._each[rest[0]].slide.path", 1),
}
"""Module, function, what of its first argument names the slide, and from which call on it raises."""

PROGRAM = """
import importlib, sys
from functools import reduce
from pyramidai_mpi.cli.main import main
module, dotted, path, first, error = sys.argv[1:6]
*owners, name = dotted.split(".")
owner = reduce(getattr, owners, importlib.import_module("pyramidai_mpi." + module))
real, calls = getattr(owner, name), []
def broken(one, *rest, **options):
    if eval(path).name == "victim.tif":
        calls.append(1)
        if len(calls) >= int(first):
            raise eval(error)
    return real(one, *rest, **options)
setattr(owner, name, broken)
main(sys.argv[6:])
"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three slides, a model, and the results of an undisturbed run."""
    folder = tmp_path_factory.mktemp("slides")
    for stem in STEMS:
        tissue_slide(folder / f"{stem}.tif", reduced_level=stem == "last")
    write_package(folder / "model", side=32, gain=0.05, thresholds=THRESHOLDS)
    assert pyramidai(*arguments(folder, folder)).returncode == 0
    return folder


def arguments(slides: Path, results: Path, *options: str) -> list[str]:
    paths = [str(slides / f"{stem}.tif") for stem in STEMS]
    return [*paths, "--model", str(slides / "model"), "--results-dir", str(results), "--batch-size", "4", *options]


def rows_of(results: Path) -> dict[str, dict[str, str]]:
    with (results / "summary.csv").open(newline="") as file:
        return {Path(row["slide"]).stem: row for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("place", "ranks"),
    [(place, 3) for place in PLACES] + [("its third batch", ranks) for ranks in (1, 2, 5)],
)
def test_a_bug_in_one_slide_ends_that_slide_and_resume_completes_it(
    slides: Path, tmp_path: Path, place: str, ranks: int
) -> None:
    words = [*PLACES[place][:3], str(PLACES[place][3]), "ZeroDivisionError('a planted\\nbug')"]
    job = mpirun(ranks, ["-c", PROGRAM, *words, *arguments(slides, tmp_path, "--read-ahead", "always")])
    assert not job.left_over
    if place == "reading ahead":  # whoever needs the tile reads it, and would meet what keeps it from being read
        assert job.returncode == 0
    elif place != "following it" or job.returncode:  # where nobody stole of it, nobody followed
        assert job.returncode == 4
        assert "Traceback (most recent call last):" in job.stderr
        assert "\n  ZeroDivisionError: a planted\n" in job.stderr
        row = rows_of(tmp_path)["victim"]
        assert row["status"] == "failed"
        assert "victim.tif: failed by a bug" in row["reason"]
        assert "ZeroDivisionError: a planted bug" in row["reason"]
    for stem in ("first", "last"):
        assert read_digest(tmp_path / f"{stem}.h5") == read_digest(slides / f"{stem}.h5")
        assert rows_of(tmp_path)[stem]["status"] == "complete"
    by = 2 if place == "its third batch" else None
    assert pyramidai(*arguments(slides, tmp_path, "--resume"), ranks=by).returncode == 0
    assert read_digest(tmp_path / "victim.h5") == read_digest(slides / "victim.h5")
    assert not list(tmp_path.glob("*.lock"))
    assert not list(tmp_path.glob("*.journal"))


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        ("MemoryError()", 4, "memory or threads are used up"),
        ("OSError(24, 'Too many open files')", 4, "Too many open files"),
        ('RuntimeError("can\'t start new thread")', 4, "can't start new thread"),
    ],
)
def test_a_machine_that_has_too_little_for_one_slide_fails_that_one(
    slides: Path, tmp_path: Path, error: str, code: int, said: str
) -> None:
    words = [*PLACES["its third batch"][:3], "3", error]
    job = mpirun(2, ["-c", PROGRAM, *words, *arguments(slides, tmp_path)])
    assert job.returncode == code
    assert "Traceback" not in job.stderr
    assert said in rows_of(tmp_path)["victim"]["reason"]
    assert "bug" not in rows_of(tmp_path)["victim"]["reason"]
    assert read_digest(tmp_path / "last.h5") == read_digest(slides / "last.h5")


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_machine_that_has_too_little_for_the_only_slide_is_74(slides: Path, tmp_path: Path, ranks: int) -> None:
    only = [str(slides / "victim.tif"), "--model", str(slides / "model"), "-o", str(tmp_path / "victim.h5")]
    words = [*PLACES["its third batch"][:3], "3", "MemoryError()"]
    job = mpirun(ranks, ["-c", PROGRAM, *words, *only, "--batch-size", "4"])
    assert job.returncode == 74
    assert "Traceback" not in job.stderr
    assert pyramidai(*only, "--resume").returncode == 0
    assert read_digest(tmp_path / "victim.h5") == read_digest(slides / "victim.h5")


def test_a_failing_journal_ends_the_run_as_all_slides_share_it(slides: Path, tmp_path: Path) -> None:
    program = """
import sys
from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.cli.main import main
from pyramidai_mpi.store.journal.writer import JournalWriter
def broken(self, *rest): raise StorageError("journal: cannot write: No space left on device")
JournalWriter.append = broken
main(sys.argv[1:])
"""
    job = mpirun(2, ["-c", program, *arguments(slides, tmp_path)])
    assert job.returncode == 74
    assert "No space left on device" in job.stderr
