"""What the commands that train refuse before they begin: see `cli.training_session`."""

from __future__ import annotations

import pytest

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.store.files.lock import OutputLock

WHOLE = ["train-whole", "a.tif", "b.tif", "--masks", "tissue-recipe"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-o", "."], "-o .: a package is a new folder; name it"),
        (["-o", "out", "--work", "out"], "--work out: and the package out lie in each other; name folders apart"),
        (["-o", "out", "--work", "out/work"], "--work out/work: and the package out lie in each other"),
        (["-o", "w/out", "--work", "w"], "--work w: and the package w/out lie in each other"),
        (["-o", "out", "--work", "."], "--work .: name a folder that is for this training alone"),
        (["-o", "out", "--learning-rate", "nan"], "--learning-rate nan: expected a number that is finite"),
        (["-o", "out", "--mpp", "inf"], "--mpp inf: expected a number that is finite"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_the_work(tmp_path, monkeypatch, capsys, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line([*WHOLE, *words]) == 64
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_of_work_that_another_training_is_at_is_left_alone(tmp_path, capsys) -> None:
    pytest.importorskip("torch")
    work = tmp_path / "out.work"
    work.mkdir()
    (work / "state.pt").write_bytes(b"of the other")
    lock = OutputLock.take(work)
    try:
        for how in ("--resume", "--overwrite"):
            assert run_command_line([*WHOLE, "-o", str(tmp_path / "out"), how]) == 73
            assert f"{work}: is being written by another run" in capsys.readouterr().err
    finally:
        lock.release()
    assert [path.name for path in work.iterdir()] == ["state.pt"]
    assert (work / "state.pt").read_bytes() == b"of the other"
