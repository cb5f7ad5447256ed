"""Users who are not root, have no home, a read-only system, a folder that all share: it works, or says in a line why.

Those who run the commands are listed nowhere, as in containers that are given any number. `tests.users` makes their
machines; it takes root.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package
from tests.users import OTHER, USER, as_user, give, run_as_user

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

RUN = ("a.tif", "--model", "model", "-q", "-o")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a slide, a model, and what comes of them, made by root."""
    as_user(tmp_path_factory.getbasetemp())
    folder = tmp_path_factory.mktemp("made")
    write_slide(SynthSpec(700, 700, seed=1), folder / "a.tif")
    write_package(folder / "model", side=64, thresholds=(0.5, 0.3, 0.3))
    assert pyramidai(*RUN, "right.h5", cwd=folder).returncode == 0
    return folder


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    """The same in a folder of the user's own."""
    folder = tmp_path / "own"
    shutil.copytree(made, folder)
    give(folder)
    folder.chmod(0o755)
    return folder


def is_right(folder: Path, name: str) -> bool:
    return read_digest(folder / name) == read_digest(folder / "right.h5")


@pytest.mark.parametrize("home", [None, "", "/nowhere", "/"], ids=["none", "empty", "not there", "read-only"])
def test_without_a_home_of_its_own_a_run_leaves_nothing_but_its_result(home: str | None, own: Path) -> None:
    before = {*own.parent.rglob("*")}
    assert run_as_user(own, [*RUN, "out.h5"], env={"HOME": home}).returncode == 0
    assert is_right(own, "out.h5")
    assert {*own.parent.rglob("*")} - before == {own / "out.h5"}


def test_a_cache_that_cannot_be_written_is_none(own: Path) -> None:
    assert run_as_user(own, [*RUN, "out.h5"], env={"XDG_CACHE_HOME": "/usr"}).returncode == 0
    assert is_right(own, "out.h5")


@pytest.mark.parametrize(("umask", "mode"), [("077", 0o600), ("777", 0o600), ("707", 0o660)])
def test_whatever_the_umask_owners_can_read_what_they_make(umask: str, mode: int, own: Path) -> None:
    under = ["sh", "-c", f'umask {umask}; exec "$@"', "sh"]
    done = run_as_user(own, [*RUN, "out.h5"], ranks=2, env={"HOME": str(own)}, before=under)
    assert done.returncode == 0
    assert is_right(own, "out.h5")
    assert stat.S_IMODE((own / "out.h5").stat().st_mode) == mode
    assert ("would keep files from their own maker" in done.stderr) is (umask != "077")
    assert all(path.stat().st_mode & stat.S_IRUSR for path in own.rglob("*"))


COMMANDS = [
    (2, ["a.tif", "b.tif", "--model", "model", "-q", "--results-dir", "made"]),
    (None, ["a.tif", "--model", "model", "-q", "-o", "ranks.h5", "--ranks", "2"]),
    (2, ["patches", "extract", "a.tif", "-o", ".", "--size", "64", "--mpp", "0.5", "-q"]),
    (None, ["patches", "report", "a.patches.h5"]),
    (None, ["explain", "right.h5", "--model", "model", "--tiles", "top:1", "-o", "explained"]),
    (None, ["export", "right.h5", "--csv", "a.csv", "--heatmap", "h.tif", "--deepzoom", "dz", "--report", "r.html"]),
    (None, ["synth", "s.tif", "--size", "600x600", "-q"]),
]


def test_on_a_read_only_system_without_a_place_for_temporary_files_every_command_works(own: Path) -> None:
    """Of a container with a read-only root, any user's number and one folder that was mounted."""
    shutil.copy(own / "a.tif", own / "b.tif")
    for ranks, words in COMMANDS:
        done = run_as_user(own, words, "read-only", ranks=ranks, env={"TMPDIR": "/nowhere"})
        assert done.returncode == 0, words
        assert "Traceback" not in done.stderr
    assert is_right(own, "made/a.h5")
    assert is_right(own, "made/b.h5")
    assert is_right(own, "ranks.h5")
    assert not [path for path in own.rglob("*") if path.name.startswith(".") or path.suffix in {".lock", ".journal"}]


@pytest.mark.parametrize("change", ["noexec={}", "size={}:8"])
def test_a_folder_for_temporary_files_without_programs_or_without_room_changes_nothing(change: str, own: Path) -> None:
    (own / "temporary").mkdir()
    done = run_as_user(own, [*RUN, "out.h5"], change.format(own / "temporary"), env={"TMPDIR": str(own / "temporary")})
    assert done.returncode == 0
    assert is_right(own, "out.h5")


@pytest.mark.parametrize("kilobytes", [4, 24])
def test_a_disk_without_room_is_one_line_of_every_command(kilobytes: int, own: Path) -> None:
    (own / "small").mkdir()
    for ranks, words in COMMANDS[2:3] + COMMANDS[5:]:
        words = ["small" if word == "." else word for word in words]
        words = [f"small/{word}" if word in {"s.tif", "a.csv", "h.tif", "dz", "r.html"} else word for word in words]
        done = run_as_user(own, words, f"size={own / 'small'}:{kilobytes}", ranks=ranks)
        assert done.returncode == 74, words
        assert done.stderr.count("error:") == 1
        assert "Traceback" not in done.stderr


def test_without_shared_memory_mpich_is_not_asked(own: Path) -> None:
    from mpi4py import MPI

    if "MPICH" not in MPI.Get_library_version():
        pytest.skip("MPICH alone cannot do without")
    for ranks in (None, 2):
        done = run_as_user(own, [*RUN, "out.h5"], "none=/dev/shm", ranks=ranks)
        assert done.returncode == 74
        assert done.stderr.count("error:") == 1
        assert "/dev/shm: is missing, or nothing can be written there, and MPICH needs it" in done.stderr
    done = run_as_user(own, [*RUN, "out.h5"], "size=/dev/shm:2500", ranks=3)
    assert done.returncode == 74
    assert "3 ranks would share 4 MiB there" in done.stderr


@pytest.fixture
def scratch(own: Path) -> Path:
    """A folder beside the user's, which all may write to, with the sticky bit."""
    folder = own / "scratch"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


LEAVING = """
import os, sys
from pathlib import Path
from pyramidai_mpi.store.files.lock import OutputLock
output = Path(sys.argv[1])
if sys.argv[2] == "lock":
    OutputLock.take(output)
elif sys.argv[2] == "journal":
    output.with_name(output.name + ".journal").mkdir()
else:
    output.write_bytes(b"of somebody else")
os._exit(0)
"""


@pytest.mark.parametrize(
    ("left", "code", "said"),
    [
        ("result", 73, f"out.h5: exists already, and only its owner, user {OTHER}, may replace it"),
        ("lock", 73, f"out.h5.lock: is left by a run that is gone, and only its owner, user {OTHER}, may remove it"),
        ("journal", 74, f"out.h5.journal: is the journal of user {OTHER}, who alone may go on from it"),
    ],
)
def test_what_another_user_has_left_in_a_shared_folder_is_named_before_the_work(
    left: str, code: int, said: str, own: Path, scratch: Path
) -> None:
    leaving = [*as_user(own, user=OTHER), sys.executable, "-c", LEAVING, "scratch/out.h5", left]
    subprocess.run(leaving, cwd=own, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=True)
    before = {path: path.stat().st_mtime_ns for path in scratch.iterdir()}
    done = run_as_user(own, [*RUN, "scratch/out.h5", "--overwrite"])
    assert done.returncode == code
    assert said in done.stderr
    assert done.stderr.count("error:") == 1
    assert {path: path.stat().st_mtime_ns for path in scratch.iterdir()} == before


def test_an_export_of_another_user_in_a_shared_folder_is_not_replaced(own: Path, scratch: Path) -> None:
    words = ["export", "right.h5", "--deepzoom", "scratch/dz"]
    assert run_as_user(own, words, user=OTHER).returncode == 0
    done = run_as_user(own, [*words, "--overwrite"], user=USER)
    assert done.returncode == 73
    assert f"only its owner, user {OTHER}, may replace it" in done.stderr
    assert [path.name for path in scratch.iterdir()] == ["dz"]


def test_names_that_are_no_text_in_a_locale_of_ascii_and_closed_standard_input(own: Path) -> None:
    odd = os.fsdecode(b"a slide\nof \xff\xe4 two lines")
    (own / "a.tif").rename(own / f"{odd}.tif")
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    closed = ["sh", "-c", 'exec "$@" <&-', "sh"]
    made = run_as_user(own, [f"{odd}.tif", *RUN[1:], f"{odd}.h5"], env=ascii_only, before=closed)
    assert made.returncode == 0
    assert is_right(own, f"{odd}.h5")
    words = ["export", f"{odd}.h5", "--csv", f"{odd}.csv", "--report", f"{odd}.html"]
    assert run_as_user(own, words, env=ascii_only, before=closed).returncode == 0
    again = run_as_user(own, [f"{odd}.tif", *RUN[1:], f"{odd}.h5"], env=ascii_only, before=closed)
    assert again.returncode == 73
    assert len(again.stderr.splitlines()) == 1
