"""Many slides in one run that is stopped or killed: each goes on from its own journal."""

from __future__ import annotations

import csv
import signal
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.end_to_end.conftest import Finished, pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.end_to_end.test_features import features_of
from tests.faults.conftest import THRESHOLDS
from tests.packages import write_package

pytestmark = pytest.mark.mpi

SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
STEMS = ("damaged", "glass", "square", "synth")


@pytest.fixture(scope="module")
def slides(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four slides, a model, and the results of an undisturbed run."""
    folder = tmp_path_factory.mktemp("slides")
    wipe_tile(tissue_slide(folder / "damaged.tif"), 5)
    tissue_slide(folder / "glass.tif", tissue=False)
    tissue_slide(folder / "square.tif")
    write_slide(SynthSpec(2500, 2000, seed=1), folder / "synth.tif")
    write_package(folder / "model", side=32, gain=0.05, thresholds=THRESHOLDS, with_features=True)
    assert pyramidai(*arguments(folder, folder, "--features"), ranks=2).returncode == 3
    return folder


def arguments(slides: Path, results: Path, *options: str) -> list[str]:
    paths = [str(slides / f"{stem}.tif") for stem in STEMS]
    return [*paths, "--model", str(slides / "model"), "--results-dir", str(results), "--batch-size", "4", *options]


def journalled(results: Path) -> int:
    """Tiles in the journals, about."""
    folders = [path for path in results.iterdir() if path.suffix == ".journal"]
    total = 0
    for folder in folders:
        with suppress(FileNotFoundError):  # finished meanwhile
            total += sum(path.stat().st_size for path in folder.glob("*.tiles"))
    return total


def resumed(slides: Path, results: Path, *options: str, ranks: int | None = 2) -> Finished:
    return pyramidai(*arguments(slides, results, *options, "--resume"), ranks=ranks)


def assert_are_undisturbed(slides: Path, results: Path) -> None:
    left = {path.name for path in results.iterdir() if not path.name.startswith("run_metadata_")}
    assert left == {"summary.csv", *(f"{stem}.h5" for stem in STEMS)}
    for stem in STEMS:
        assert read_digest(results / f"{stem}.h5") == read_digest(slides / f"{stem}.h5")


def assert_table_tells_what_is_finished(results: Path) -> None:
    finished = {path.name for path in results.glob("*.h5")}
    if not finished:  # then no slide had ended
        return
    with (results / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(STEMS)
    assert {Path(row["output"]).name for row in rows if row["status"] != "unfinished"} == finished


def assert_ranks_share_their_files(results: Path, ranks_of_start: dict[int, int]) -> None:
    """A rank has one file a start, for all slides; beside the results are manifests only."""
    assert not list(results.glob("*.h5.journal/*.tiles"))
    files = [path.stem.split("-") for path in (results / "pyramidai.journal").glob("*.tiles")]
    by_start = {start: [int(rank) for number, _, rank in files if int(number) == start] for start in ranks_of_start}
    assert sum(map(len, by_start.values())) == len(files)
    for start, ranks in by_start.items():
        assert ranks
        assert len(ranks) == len(set(ranks))
        assert set(ranks) <= set(range(ranks_of_start[start]))


@pytest.mark.parametrize(
    ("victim", "number"),
    [(None, signal.SIGTERM), (1, signal.SIGUSR1), (0, signal.SIGKILL)],
    ids=["SIGTERM", "SIGUSR1 to rank 1", "kill -9 of rank 0"],
)
def test_every_slide_goes_on_where_it_was(
    slides: Path, tmp_path: Path, victim: int | None, number: signal.Signals
) -> None:
    options = ("--features",) if victim == 1 else ()
    with started(3, [SLOWLY, "0.005", *arguments(slides, tmp_path, *options)]) as job:
        assert job.wait_until(lambda: journalled(tmp_path) > 6000), job.output()
        kill(job.launcher.pid if victim is None else job.ranks()[victim], number)
        code = job.wait()
        assert code != 0 if number == signal.SIGKILL else code == 75, job.output()
        assert number == signal.SIGKILL or "--resume" in job.output()
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("*.lock"))
    assert_ranks_share_their_files(tmp_path, {1: 3})
    before = {path: path.read_bytes() for path in tmp_path.glob("*.h5")}
    if number != signal.SIGKILL:
        assert_table_tells_what_is_finished(tmp_path)
    assert resumed(slides, tmp_path, *options).returncode == 3
    assert_are_undisturbed(slides, tmp_path)
    assert all(path.read_bytes() == content for path, content in before.items())
    if options:
        for n, features in features_of(slides / "damaged.h5").items():
            np.testing.assert_array_equal(features_of(tmp_path / "damaged.h5")[n], features)


def test_killed_again_it_has_one_more_file_for_each_rank_and_none_in_the_end(slides: Path, tmp_path: Path) -> None:
    ranks_of_start = {1: 3, 2: 2}
    for ranks, options in zip(ranks_of_start.values(), ((), ("--resume",)), strict=True):
        before = journalled(tmp_path)
        with started(ranks, [SLOWLY, "0.005", *arguments(slides, tmp_path, *options)]) as job:
            assert job.wait_until(lambda before=before: journalled(tmp_path) > before + 4000), job.output()
            kill(job.launcher.pid)
            assert job.wait() != 0
    assert_ranks_share_their_files(tmp_path, ranks_of_start)
    assert resumed(slides, tmp_path).returncode == 3
    assert_are_undisturbed(slides, tmp_path)


def test_without_resume_a_journal_refuses_its_slide_and_no_other(slides: Path, tmp_path: Path) -> None:
    (tmp_path / "square.h5.journal").mkdir()
    done = pyramidai(*arguments(slides, tmp_path))
    assert done.returncode == 4
    assert "square.h5.journal: an earlier run was not finished" in done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.h5")) == ["damaged.h5", "glass.h5", "synth.h5"]
    assert resumed(slides, tmp_path, ranks=None).returncode == 3
    assert_are_undisturbed(slides, tmp_path)


def test_a_journal_of_other_settings_fails_its_slide_and_no_other(slides: Path, tmp_path: Path) -> None:
    with started(2, [SLOWLY, "0.005", *arguments(slides, tmp_path)]) as job:
        assert job.wait_until(lambda: journalled(tmp_path) > 3000), job.output()
        kill(job.launcher.pid, signal.SIGTERM)
        assert job.wait() == 75
    begun = {path.name.removesuffix(".h5.journal") for path in tmp_path.glob("*.h5.journal")}
    finished = {path.stem for path in tmp_path.glob("*.h5")}
    done = resumed(slides, tmp_path, "--threshold", "1=0.31")
    assert done.returncode == 4
    for stem in begun | finished:
        assert f"{stem}.h5" in done.stderr
        assert "thresholds" in done.stderr
    assert {path.stem for path in tmp_path.glob("*.h5")} == {*STEMS} - begun
    for stem in {*STEMS} - finished - begun:
        (tmp_path / f"{stem}.h5").unlink()
    assert resumed(slides, tmp_path).returncode == 3
    assert_are_undisturbed(slides, tmp_path)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_slide_that_is_written_to_ends_alone(slides: Path, tmp_path: Path, ranks: int) -> None:
    changed = tmp_path / "changed.tif"
    changed.write_bytes((slides / "square.tif").read_bytes())
    program = f"""
import sys
from pyramidai_mpi.analyses.classify import SlideClassifier
from pyramidai_mpi.cli.main import main
look, path, calls = SlideClassifier.look, {str(changed)!r}, []
def spoiling(self, *arguments):
    if str(self._source._pyramid.reader.info.path) == path:
        calls.append(1)
        if len(calls) == 3:
            open(path, "ab").write(b"more")
    return look(self, *arguments)
SlideClassifier.look = spoiling
main(sys.argv[1:])
"""
    paths = [str(slides / "synth.tif"), str(changed), str(slides / "damaged.tif")]
    options = ["--model", str(slides / "model"), "--results-dir", str(tmp_path), "--batch-size", "4", "--features"]
    job = mpirun(ranks, ["-c", program, *paths, *options])
    assert job.returncode == 4
    assert "changed.tif: was written to while it was being read" in job.stderr
    assert "Traceback" not in job.stderr
    assert not (tmp_path / "changed.h5").exists()
    for stem in ("synth", "damaged"):
        assert read_digest(tmp_path / f"{stem}.h5") == read_digest(slides / f"{stem}.h5")
