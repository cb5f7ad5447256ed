"""Whatever becomes of the cache of networks, results are the same; a network that changes under a run ends it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import mpirun
from tests.end_to_end.conftest import digest_of
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A slide, and a model that is not a shipped one."""
    folder = tmp_path_factory.mktemp("case")
    write_slide(SynthSpec(900, 900, seed=3), folder / "s.tif")
    return folder / "s.tif", write_package(folder / "m", thresholds=(0.5, 0.3, 0.2))


def run(case: tuple[Path, Path], output: Path, *words: str, ranks: int = 2, **env: str) -> str:
    """Digest of a run."""
    slide, model = case
    command = ["-m", "pyramidai_mpi", str(slide), "--model", str(model), "-o", str(output), "--backend", "openvino"]
    job = mpirun(ranks, [*command, "--no-progress", *words], env=env)
    assert job.returncode == 0
    assert not any(word in job.stderr for word in ("warning", "Traceback"))
    assert all(job.stderr.count(line) == 1 for line in job.stderr.splitlines() if "not used" in line or "kept" in line)
    return digest_of(output)


def damage(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.fixture(scope="module")
def plain(case: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> str:
    """Digest of a run on one rank that keeps nothing."""
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    return run(case, tmp_path_factory.mktemp("plain") / "o.h5", "--no-compiled-cache", ranks=1)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_first_and_second_start_give_the_same(case: tuple[Path, Path], plain: str, tmp_path: Path, ranks: int) -> None:
    home = tmp_path / "cache"
    first = run(case, tmp_path / "1.h5", ranks=ranks, XDG_CACHE_HOME=str(home))
    kept = {path: path.stat().st_ino for path in home.rglob("*.network")}
    second = run(case, tmp_path / "2.h5", ranks=ranks, XDG_CACHE_HOME=str(home))
    assert first == second == plain
    assert len(kept) == 3
    assert kept == {path: path.stat().st_ino for path in home.rglob("*.network")}


@pytest.mark.parametrize("spoil", [damage, cut, empty])
def test_damaged_ones_are_made_anew(
    case: tuple[Path, Path], plain: str, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    home = tmp_path / "cache"
    run(case, tmp_path / "1.h5", XDG_CACHE_HOME=str(home))
    kept = {path: path.read_bytes() for path in home.rglob("*.network")}
    for path in kept:
        spoil(path)
    assert run(case, tmp_path / "2.h5", XDG_CACHE_HOME=str(home)) == plain
    assert all(path.read_bytes() == kept[path] for path in home.rglob("*.network")), "a damaged one is left"


def test_where_nothing_can_be_kept_one_line_is_said_at_most(
    case: tuple[Path, Path], plain: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    assert run(case, tmp_path / "1.h5", XDG_CACHE_HOME=str(tmp_path / "file")) == plain
    assert run(case, tmp_path / "2.h5", XDG_CACHE_HOME="", HOME=str(tmp_path / "missing" / "home")) == plain
    assert not (tmp_path / "missing").exists()
    others = tmp_path / "others" / "pyramidai" / "networks"
    others.mkdir(parents=True)
    others.chmod(0o777)
    assert run(case, tmp_path / "3.h5", XDG_CACHE_HOME=str(tmp_path / "others")) == plain
    assert list(others.iterdir()) == []


CHANGED = """
import sys
from mpi4py import MPI
from pyramidai_mpi.cli.main import main
from pyramidai_mpi.run import run

plain = run.run_pool

def change_first(comm, *rest, **options):
    if comm.rank == comm.size - 1:
        with open(sys.argv[1] + "/level0.onnx", "ab") as file:
            file.write(b"x")
    comm.Barrier()
    return plain(comm, *rest, **options)

run.run_pool = change_first
main(sys.argv[2:])
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_network_that_is_changed_before_it_is_needed_ends_the_run_with_one_line(
    case: tuple[Path, Path], tmp_path: Path, ranks: int
) -> None:
    slide, _ = case
    model = write_package(tmp_path / "m", thresholds=(0.5, 0.0, 0.0))
    words = [str(slide), "--model", str(model), "-o", str(tmp_path / "o.h5"), "--no-progress"]
    job = mpirun(ranks, ["-c", CHANGED, str(model), *words])
    assert job.returncode == 65
    assert job.stderr.count("error:") == 1
    assert "level0.onnx: was changed since the run began" in job.stderr
    assert "Traceback" not in job.stderr
    assert not (tmp_path / "o.h5").exists()
