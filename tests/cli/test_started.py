"""Ranks that Python starts: the same run by its words, and the error that a command line ends with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pyramidai_mpi
from pyramidai_mpi.base import errors
from pyramidai_mpi.base.hosts import Hosts
from pyramidai_mpi.base.settings import ModelChoice, Output, Regions, RunSettings, Schedule, SlideInput, Windows
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.cli import started
from pyramidai_mpi.cli.run import command
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.testing import launch
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package

ALL_OTHERWISE = RunSettings(
    SlideInput(
        Path("-odd name.tif"),
        0.5,
        "mpp",
        0.25,
        Regions(Path("r"), Path("e"), Path("t m.png")),
        True,
        "tiff",
        True,
        odd_levels="interpolated",
    ),
    ModelChoice(
        Path("model"), {0: 0.1, 2: 1 / 3}, "tumor", True, "openvino", "bfloat16", "float16", Path("e n c"), False
    ),
    Output(Path("o.h5"), False, True, writer="serial", accept_mixed=True),
    Schedule("static", 7, 3, "never", 2.5),
    Mode.EXHAUSTIVE,
    windows=Windows(None, 0.5, "shared", True),
    hosts=Hosts(True, True, Path("s c")),
)
REPOSITORY = Path(pyramidai_mpi.__file__).resolve().parent.parent


def test_the_words_say_to_the_command_line_what_was_asked_for():
    words = started.words_of(ALL_OTHERWISE, "2h")
    assert words[0] == "run"
    got = command.make_context("run", words[1:]).params
    assert got["slides"] == (Path("-odd name.tif"),)
    assert got["threshold"] == ("0=0.1", f"2={1 / 3!r}")
    expected = {
        "model": Path("model"), "output": Path("o.h5"), "mode": "exhaustive", "mpp": 0.5, "levels": "mpp",
        "roi": Path("r"), "exclude": Path("e"), "tissue_mask": Path("t m.png"), "no_tissue": False, "min_tissue": 0.25,
        "allow_upsampling": True, "batch_size": 3, "policy": "static", "seed": 7, "positive_class": "tumor",
        "features": True, "feature_type": "float16", "encoder": Path("e n c"),
        "writer": "serial", "backend": "openvino", "precision": "bfloat16", "reader": "tiff",
        "read_ahead": "never", "slide_sha256": True, "overwrite": False, "resume": True, "accept_mixed": True,
        "time_limit": "2h", "audit": 2.5, "tissue": "od", "tissue_limit": None, "odd_levels": "interpolated",
        "stride": None, "overlap": 0.5, "compiled_cache": False, "stride_mode": "shared", "allow_approximate": True,
        "own_disks": True, "send_slide": True, "scratch": Path("s c"),
    }  # fmt: skip
    assert {name: got[name] for name in expected} == expected
    # what is left says nothing of the result, or is not for one slide on started ranks
    rest = {
        "slides",
        "threshold",
        "table",
        "results_dir",
        "export",
        "part",
        "ranks",
        "no_progress",
        "verbose",
        "quiet",
        "log_level",
    }
    assert got.keys() - expected.keys() == rest


@pytest.mark.parametrize(
    ("code", "lines", "kind", "said"),
    [
        (65, ["12:00:00 hm", "pyramidai: error: a.tif: is red"], errors.InputError, "a.tif: is red"),
        (73, ["pyramidai: error: a.h5: exists", "[mpiexec] gone"], errors.OutputExistsError, "a.h5: exists"),
        (75, ["pyramidai: stopped: the time limit is near"], errors.StoppedError, "the time limit is near"),
        (70, ["Traceback", "pyramidai: error: this is a bug"], errors.InternalError, "this is a bug"),
        (-9, ["12:00:00 hm"], errors.LostRankError, "ended with code -9; their last lines: 12:00:00 hm"),
        (137, [], errors.LostRankError, "ended with code 137; their last lines: none"),
    ],
)
def test_how_the_ranks_end_is_the_error(code, lines, kind, said):
    error = started._error_of(code, lines)
    assert type(error) is kind
    assert str(error).endswith(said)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("started")
    tissue_slide(folder / "a.tif")
    write_package(folder / "model", side=64, thresholds=(0.5, 0.45, 0.3))
    return folder


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_started_ranks_give_the_result_of_this_process(folder, ranks):
    slide, model = folder / "a.tif", folder / "model"
    result = pyramidai_mpi.analyse(slide, model, ranks=ranks, thresholds={0: 0.9}, features=False)
    assert result.summary.execution["n_ranks"] == ranks
    code = "import sys, pyramidai_mpi as p; print(p.analyse(*sys.argv[1:], thresholds={0: 0.9}).digest)"
    here = [sys.executable, "-c", code, slide, model]
    assert result.digest == subprocess.check_output(here, text=True, cwd=REPOSITORY, timeout=120).strip()


@pytest.mark.mpi
def test_the_error_of_started_ranks_is_raised(folder, tmp_path):
    (tmp_path / "taken.h5").touch()
    with pytest.raises(FileExistsError, match=r"taken\.h5: exists already; use overwrite"):
        pyramidai_mpi.analyse(folder / "a.tif", folder / "model", ranks=2, output=tmp_path / "taken.h5")
    with pytest.raises(FileNotFoundError, match="no such slide"):
        pyramidai_mpi.analyse(folder / "b.tif", folder / "model", ranks=2)
    with pytest.raises(ValueError, match="ranks='many'"):
        pyramidai_mpi.analyse(folder / "a.tif", folder / "model", ranks="many")


_SLOW_TO_END = """
import signal, sys, time
from pathlib import Path

def end(number, frame):
    sys.stderr.write("a line of a rank that ends\\n" * 10_000)  # more than a pipe holds
    time.sleep(1)
    Path(sys.argv[1]).touch()
    sys.exit(75)

signal.signal(signal.SIGINT, end)
print("ready", file=sys.stderr, flush=True)
while True:
    time.sleep(1)
"""


def test_after_an_interrupt_the_ranks_have_ended_when_the_caller_goes_on(monkeypatch, tmp_path):
    ended = tmp_path / "ended"
    monkeypatch.setattr(started, "command_for_ranks", lambda n, program: [sys.executable, "-c", _SLOW_TO_END, ended])

    def interrupt(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(started, "progress_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        started.run_on_ranks(2, ALL_OTHERWISE, None, lambda progress: None)
    assert ended.exists()


@pytest.mark.mpi
@pytest.mark.slow
def test_an_interrupt_ends_the_ranks_and_keeps_what_was_done(tmp_path):
    slide, output = tmp_path / "large.tif", tmp_path / "out.h5"
    synth = [sys.executable, "-m", "pyramidai_mpi", "synth", slide, "--size", "8000x8000", "--seed", "1"]
    subprocess.run(synth, cwd=REPOSITORY, check=True, capture_output=True, timeout=300)
    # whoever runs the tests in the background has interrupts ignored
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); import pyramidai_mpi as p; "
    code += "p.analyse(sys.argv[1], output=sys.argv[2], ranks=2, mode='exhaustive')"
    words, tag = [sys.executable, "-c", code, slide, output], {launch.TAG: tmp_path.name}
    journal = JournalFolder.of(output)
    with subprocess.Popen(words, cwd=REPOSITORY, env=os.environ | tag, stderr=subprocess.PIPE, text=True) as process:
        while not journal.exists and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert "KeyboardInterrupt" in said
    assert launch.processes_of(tmp_path.name) == []
    assert journal.exists
    assert not output.exists()
    pyramidai_mpi.analyse(slide, output=output, ranks=2, mode="exhaustive", resume=True)
    assert not journal.exists
