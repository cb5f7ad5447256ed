"""What is shown while a run goes on: the right totals on any number of ranks, and a bar on a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, mpirun, started
from tests.end_to_end.conftest import digest_of, pyramidai

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three small slides of different sizes."""
    folder = tmp_path_factory.mktemp("several")
    paths = [folder / f"{seed}.tif" for seed in (1, 2, 3)]
    for seed, path in enumerate(paths, 1):
        write_slide(SynthSpec(1500 * seed, 2000, seed=seed), path)
    return paths


def reported(ranks: int, mode: str, folder: Path, *slides: Path) -> dict[str, list[float]]:
    job = mpirun(ranks, ["tests/end_to_end/run_reporting.py", mode, folder, *slides], cwd=REPOSITORY)
    assert job.returncode == 0
    said: dict[str, list[float]] = json.loads(job.stdout)
    return said


def tiles_in(*results: Path) -> int:
    total = 0
    for result in results:
        with h5py.File(result) as file:
            total += sum(len(level["index"]) for level in file["levels"].values())
    return total


@pytest.mark.parametrize("mode", ["pyramid", "reference", "exhaustive"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_at_the_end_all_tiles_of_the_result_are_done(ranks: int, mode: str, slide: Path, tmp_path: Path) -> None:
    said = reported(ranks, mode, tmp_path, slide)
    truth = tiles_in(tmp_path / f"{slide.stem}.h5")
    assert said["last"] == [truth, truth, 1.0]
    assert said["left_s"] == 0
    assert said["most"] == 1.0
    assert said["phases"] == ["reading the model", "finding tissue", "loading the networks", "writing the result"]
    if mode == "pyramid":
        assert said["first"][2] is False
    else:  # known from the first report on
        assert said["first"][1:] == [truth, True]
        assert set(said["totals"]) == {truth}


@pytest.mark.parametrize("mode", ["pyramid", "exhaustive"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_of_several_slides_all_tiles_count(ranks: int, mode: str, several: list[Path], tmp_path: Path) -> None:
    said = reported(ranks, mode, tmp_path, *several)
    truth = tiles_in(*(tmp_path / f"{slide.stem}.h5" for slide in several))
    assert said["last"] == [truth, truth, 1.0]
    assert said["phases"] == ["reading the model", "loading the networks", "finding tissue"]
    if mode == "exhaustive":  # exact once all are open
        assert set(said["totals"]) == {truth}


@pytest.fixture(scope="module")
def all_tiles(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> int:
    """How many tiles an exhaustive run of the slide looks at."""
    whole = tmp_path_factory.mktemp("whole") / "out.h5"
    assert pyramidai(slide, "-o", whole, "--mode", "exhaustive").returncode == 0
    return tiles_in(whole)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_that_goes_on_counts_what_its_journal_has(
    ranks: int, slide: Path, all_tiles: int, tmp_path: Path
) -> None:
    command = [
        sys.executable,
        "-m",
        "pyramidai_mpi",
        slide,
        "-o",
        tmp_path / f"{slide.stem}.h5",
        "--mode",
        "exhaustive",
    ]
    stopped = subprocess.Popen(command, env=dict(os.environ) | {"PYTHONPATH": str(REPOSITORY)}, cwd=tmp_path)
    journal = tmp_path / f"{slide.stem}.h5.journal"
    with suppress(FileNotFoundError):  # it was too fast for us, and its journal is gone
        while stopped.poll() is None and not any(file.stat().st_size > 3000 for file in journal.glob("*.tiles")):
            time.sleep(2e-3)
    stopped.kill()
    stopped.wait()
    assert journal.exists()
    said = reported(ranks, "exhaustive", tmp_path, slide)
    assert said["first"][0] > 0
    assert said["first"][1:] == [all_tiles, True]
    assert said["last"] == [all_tiles, all_tiles, 1.0]


@pytest.mark.parametrize("ranks", [None, 2], ids=["alone", "2 ranks"])
def test_a_terminal_shows_percent_and_at_the_end_no_trace_of_it(ranks: int | None, slide: Path, tmp_path: Path) -> None:
    shown = bytearray()

    def take(terminal: int) -> bytes:
        piece = os.read(terminal, 4096)
        shown.extend(piece)
        return piece

    # exhaustive: long enough for a second look at it on any machine
    words = [sys.executable, "-m", "pyramidai_mpi", str(slide), "-o", str(tmp_path / "x.h5"), "--mode", "exhaustive"]
    words += [] if ranks is None else ["--ranks", str(ranks)]
    assert pty.spawn(words, take) == 0
    screens = [screen.strip() for screen in re.split(r"[\r\n]+", shown.decode())]
    assert "finding tissue ..." in screens
    bars = [re.fullmatch(r"(\d+)%\|.*\| (\d+) of (about )?(\d+) tiles, .*idle \d+%", screen) for screen in screens]
    percents = [int(bar[1]) for bar in bars if bar]
    truth = str(tiles_in(tmp_path / "x.h5"))
    last = [bar for bar in bars if bar][-1]
    assert percents[-1] == 100
    assert (last[2], last[3], last[4]) == (truth, None, truth)
    assert min(percents) < 100


@pytest.mark.parametrize("ranks", ["1", "2", "auto"])
def test_ranks_that_a_run_starts_by_itself_make_the_same_result(
    ranks: str, slide: Path, pyramid_run: Path, tmp_path: Path
) -> None:
    done = pyramidai(slide, "-o", tmp_path / "x.h5", "--ranks", ranks)
    assert done.returncode == 0
    assert digest_of(tmp_path / "x.h5") == digest_of(pyramid_run)
    with h5py.File(tmp_path / "x.h5") as file:
        if ranks != "auto":
            assert len(file["execution/ranks"]) == int(ranks)
        assert file["execution"].attrs["command_line"].endswith(f"--ranks {ranks}")


def test_their_exit_code_is_that_of_the_run(slide: Path, tmp_path: Path) -> None:
    (tmp_path / "no.tif").write_text("no slide")
    done = pyramidai(tmp_path / "no.tif", "-o", tmp_path / "x.h5", "--ranks", "2")
    assert done.returncode == 65
    assert done.stderr.count("pyramidai: error:") == 1
    done = pyramidai(slide, "-o", tmp_path / "x.h5", "--ranks", "2", "--threshold", "9=0.5")
    assert done.returncode == 64
    assert done.stderr.count("pyramidai: error:") == 1


def test_ctrl_c_stops_ranks_that_a_run_has_started_by_itself_with_75(slide: Path, tmp_path: Path) -> None:
    output = tmp_path / "x.h5"
    words = ["-m", "pyramidai_mpi", slide, "-o", output, "--mode", "exhaustive", "--batch-size", "1", "--ranks", "2"]
    with started(None, words) as job:
        assert job.wait_until(lambda: any((tmp_path / "x.h5.journal").glob("*.tiles")))
        job.launcher.send_signal(signal.SIGINT)
        assert job.wait() == 75
        assert "--resume goes on from there" in job.output()
    assert not output.exists()
    assert pyramidai(slide, "-o", output, "--mode", "exhaustive", "--resume").returncode == 0


def test_without_a_launcher_one_line_says_what_to_do(slide: Path, tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"  # beside which no mpirun lies
    python.parent.mkdir()
    python.symlink_to(shutil.which(sys.executable) or sys.executable)
    path = os.pathsep.join([str(REPOSITORY), *filter(None, sys.path)])
    done = subprocess.run(
        [python, "-m", "pyramidai_mpi", slide, "-o", tmp_path / "x.h5", "--ranks", "2"],
        env={"PATH": str(tmp_path), "PYTHONPATH": path, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 64
    assert re.fullmatch(r"pyramidai: error: 2 ranks: .*pip install 'pyramidai-mpi\[mpi\]'\n", done.stderr)
    assert not (tmp_path / "x.h5").exists()


def test_under_a_launcher_another_number_is_an_error_of_all_ranks(slide: Path, tmp_path: Path) -> None:
    done = pyramidai(slide, "-o", tmp_path / "x.h5", "--ranks", "3", ranks=2)
    assert done.returncode == 64
    assert done.stderr.count("pyramidai: error: --ranks 3: the launcher has started 2") == 1
