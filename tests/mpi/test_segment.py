"""Masks are the same files on any number of ranks, and after any kill."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.store.masks.reader import read_facts
from pyramidai_mpi.testing.launch import REPOSITORY, kill, mpirun, started
from tests.segmenting import STRIDED, strided_network, write_network
from tests.tiffs import drop_tile, textured, write_slide

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

PROGRAM = str(REPOSITORY / "tests" / "mpi" / "run_segment.py")
N_BLOCKS = 9 * 7 + 5 * 5
FILES = ("a_mask.tif", "a_probability.tif", "b_mask.tif", "b_probability.tif")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two slides, one of them damaged, and the masks that one rank made."""
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", [textured(517, 390)], mpp=1.0)
    write_slide(folder / "b.tif", [textured(300, 310, seed=1)], mpp=1.0)
    drop_tile(folder / "b.tif", 1, 1)
    write_network(folder / "model", strided_network(), **STRIDED)
    assert run(1, folder, folder).returncode == 0
    return folder


def arguments(folder: Path, results: Path, *options: str, seconds: float = 0) -> list[str]:
    slides = [str(folder / f"{name}.tif") for name in "ab"]
    return [PROGRAM, str(results), str(folder / "model"), str(seconds), *options, *slides]


def run(ranks: int, folder: Path, results: Path, *options: str):
    return mpirun(ranks, arguments(folder, results, *options))


def masks_of(results: Path) -> list[bytes]:
    return [(results / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_any_number_of_ranks_writes_the_same_bytes(folder, tmp_path, ranks):
    job = run(ranks, folder, tmp_path)
    assert job.returncode == 0
    assert sorted(line[:1] for line in job.stdout.splitlines() if line[:2] in {"0 ", "3 "}) == ["0", "3"]
    assert masks_of(tmp_path) == masks_of(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)
    assert read_facts(tmp_path / "b_mask.tif")["n_unknown"] > 128**2
    assert not read_facts(tmp_path / "a_mask.tif")["n_unknown"]


def journalled(results: Path) -> int:
    return sum(path.stat().st_size for path in results.glob("*.journal/*.tiles"))


@pytest.mark.parametrize(("ranks", "victim"), [(3, 2), (2, 0)])
def test_killed_and_resumed_it_writes_the_same_bytes(folder, tmp_path, ranks, victim):
    with started(ranks, arguments(folder, tmp_path, seconds=0.05)) as job:
        assert job.wait_until(lambda: journalled(tmp_path) > 20_000), job.output()
        kill(job.ranks()[victim])
        assert job.wait() != 0
    assert not (tmp_path / "a_mask.tif").exists()
    again = run(3, folder, tmp_path, "--resume")
    assert again.returncode == 0
    done_again = sum(map(int, re.findall(r"^did (\d+) blocks", again.stdout, re.MULTILINE)))
    assert 0 < done_again < N_BLOCKS - 5
    assert masks_of(tmp_path) == masks_of(folder)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(FILES)


def test_stopped_in_time_it_keeps_what_was_done(folder, tmp_path):
    stopped = run(2, folder, tmp_path, "--stop")
    assert stopped.returncode == 75
    n_kept = int(re.search(r"(\d+) blocks of others are kept", stopped.stdout)[1])
    assert n_kept >= 3
    assert run(1, folder, tmp_path, "--resume").returncode == 0
    assert masks_of(tmp_path) == masks_of(folder)
