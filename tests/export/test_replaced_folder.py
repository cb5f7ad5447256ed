"""A folder is replaced whole or not at all, and only one of the same kind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import OutputExistsError, StorageError
from pyramidai_mpi.export.replaced_folder import FolderKind, replaced_folder
from pyramidai_mpi.testing.launch import REPOSITORY

KIND = FolderKind("a thing", "mark", r"mark|\d+")


def make(folder: Path, text: str, *, overwrite: bool = True) -> None:
    with replaced_folder(folder, KIND, overwrite=overwrite) as made:
        (made / "mark").touch()
        (made / "1").write_text(text)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_an_empty_folder_is_taken_and_a_filled_one_replaced_on_request_alone(tmp_path):
    (tmp_path / "a").mkdir()
    make(tmp_path / "a", "first", overwrite=False)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        make(tmp_path / "a", "second", overwrite=False)
    assert (tmp_path / "a" / "1").read_text() == "first"
    make(tmp_path / "a", "second")
    assert (tmp_path / "a" / "1").read_text() == "second"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("held", ["nothing", "an older one", "no folder"])
def test_a_link_is_refused_before_the_work_and_stays_with_what_it_leads_to(tmp_path, held):
    if held == "an older one":
        make(tmp_path / "real", "old")
    elif held == "nothing":
        (tmp_path / "real").mkdir()
    (tmp_path / "a").symlink_to("real")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    with pytest.raises(OutputExistsError, match="is a link, which is never replaced"):
        KIND.check(tmp_path / "a", overwrite=True)
    with pytest.raises(OutputExistsError, match="is a link, which is never replaced"):
        make(tmp_path / "a", "new")
    assert (tmp_path / "a").readlink() == Path("real")
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("held", ["mine", "mark and mine", "a file"])
def test_what_holds_anything_else_is_left_alone(tmp_path, held):
    if held == "a file":
        (tmp_path / "a").write_text("mine")
    else:
        (tmp_path / "a").mkdir()
        for name in held.split(" and "):
            (tmp_path / "a" / name).write_text("mine")
    with pytest.raises(OutputExistsError, match="name another folder"):
        make(tmp_path / "a", "new")
    assert names(tmp_path) == ["a"]


def test_what_holds_anything_else_further_down_is_left_alone(tmp_path):
    make(tmp_path / "a", "old")
    (tmp_path / "a" / "2").mkdir()
    (tmp_path / "a" / "2" / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match="holds something else than a thing; name another folder"):
        make(tmp_path / "a", "new")
    assert (tmp_path / "a" / "2" / "notes.txt").read_text() == "mine"


def test_where_the_name_cannot_be_given_the_older_folder_gets_it_back(tmp_path, monkeypatch):
    make(tmp_path / "a", "first")
    rename = Path.rename

    def failing(self, target):
        if self.name.endswith(".part"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(StorageError, match="Input/output error"):
        make(tmp_path / "a", "second")
    assert (tmp_path / "a" / "1").read_text() == "first"
    assert names(tmp_path) == ["a"]


KILLED = """
import os, signal, shutil, sys
from pathlib import Path
from tests.export.test_replaced_folder import make
step, folder, rename = int(sys.argv[1]), Path(sys.argv[2]), Path.rename
done = []
def renamed(self, target):
    if len(done) == step:
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(target)
    return rename(self, target)
def removed(*a, **k):
    (Path(a[0]) / "mark").unlink()
    os.kill(os.getpid(), signal.SIGKILL)
Path.rename, shutil.rmtree = renamed, removed
make(folder, "second")
"""


@pytest.mark.parametrize("step", range(4))
def test_a_kill_at_any_step_loses_neither_and_the_next_one_leaves_nothing_else(tmp_path, step):
    folder = tmp_path / "a"
    make(folder, "first")
    done = subprocess.run([sys.executable, "-c", KILLED, str(step), folder], cwd=REPOSITORY, check=False)
    assert done.returncode == -9
    with pytest.raises(OutputExistsError, match="--overwrite"):  # one of them is there, or comes back
        make(folder, "third", overwrite=False)
    assert (folder / "1").read_text() == ("first" if step < 2 else "second")
    make(folder, "third")
    assert (folder / "1").read_text() == "third"
    assert names(tmp_path) == ["a"]
