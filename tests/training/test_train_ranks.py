"""``pyramidai train`` over MPI ranks: the same weights, log and package for any number of them, however they fare."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

pytest.importorskip("torch")

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.testing.launch import mpirun
from tests.patch_files import labelled_by, order_of, write_patches_of
from tests.tiffs import textured, write_slide

pytestmark = pytest.mark.mpi

SIDE = 64
SCRIPT = "tests/training/slowed_train.py"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of patches of five patients; the right half of each slide is dark, and tumour."""
    folder = tmp_path_factory.mktemp("patches")
    for patient in range(5):
        image = textured(512, 256, patient)
        image[:, 256:] //= 2
        slide = write_slide(folder / f"patient_{patient:03}_node_0.tif", [image], mpp=0.5)
        labels = labelled_by(("normal", "tumor"), lambda table: (table["col"] >= 4).astype(np.int16))
        write_patches_of(slide, folder / f"patient_{patient:03}_node_0.patches.h5", order_of(SIDE, SIDE), change=labels)
    return folder


def words(folder, out, *more) -> list[str]:
    usual = ["--epochs", "3", "--batch-size", "24", "--micro-batch", "4", "--learning-rate", "0.003", "-q"]
    return ["train", "--patches", str(folder), "-o", str(out), *usual, *map(str, more)]


def trained(ranks, folder, out, *more, script=()):
    return mpirun(ranks, [SCRIPT, *script, *words(folder, out, *more)], timeout=120)


def digests(package) -> list[str]:
    return re.findall(r"^- level \d: ([0-9a-f]{64})$", (package / "README.md").read_text(), re.M)


@pytest.fixture(scope="module")
def alone(folder, tmp_path_factory):
    """The package that one process makes."""
    out = tmp_path_factory.mktemp("alone") / "package"
    assert run_command_line(words(folder, out)) == 0
    assert len(digests(out)) == 1
    return out


def assert_same(package, alone) -> None:
    assert digests(package) == digests(alone)
    assert (package / "log.csv").read_bytes() == (alone / "log.csv").read_bytes()
    assert load_package(package).levels[0].sha256 == load_package(alone).levels[0].sha256


@pytest.mark.parametrize(("ranks", "script"), [(2, ()), (4, ("slow=3:0.05",))], ids=["two", "four, one slow"])
def test_any_number_of_ranks_makes_the_same_package(folder, alone, tmp_path, ranks, script) -> None:
    job = trained(ranks, folder, tmp_path / "package", script=script)
    assert job.returncode == 0
    assert_same(tmp_path / "package", alone)
    times = (tmp_path / "package.work/level0.log-times.csv").read_text().splitlines()
    assert [line.split(",")[2] for line in times] == ["ranks", *[str(ranks)] * 3]


def test_one_that_is_killed_goes_on_with_other_ranks_to_the_same_package(folder, alone, tmp_path) -> None:
    out = tmp_path / "package"
    killed = trained(3, folder, out, "--save-every", "0", script=["kill=1:5"])
    assert killed.returncode != 0
    assert not out.exists()
    assert (tmp_path / "package.work/level0.state.pt").exists()
    assert run_command_line(words(folder, out)) == 73
    gone_on = trained(2, folder, out, "--resume")
    assert gone_on.returncode == 0
    assert_same(out, alone)


def test_another_seed_makes_another_one(folder, alone, tmp_path) -> None:
    assert run_command_line(words(folder, tmp_path / "package", "--seed", "1")) == 0
    assert not set(digests(tmp_path / "package")) & set(digests(alone))


def test_one_that_is_stopped_in_time_says_so_and_goes_on_to_the_same_package(folder, alone, tmp_path) -> None:
    out = tmp_path / "package"
    # it stops 65 s before its limit, and each micro-batch takes a second
    job = trained(2, folder, out, "--time-limit", "70", script=["slow=0:1"])
    assert job.returncode == 75
    assert "the time limit is near: what was trained is kept in" in job.stderr
    assert "the same command with --resume goes on from there" in job.stderr
    assert run_command_line(words(folder, out, "--resume")) == 0
    assert_same(out, alone)


def test_a_slow_rank_gives_its_work_away(folder, tmp_path) -> None:
    """Of 6 micro-batches a step, those of the slow rank's share that it has not begun are done by the other one."""
    done = {}
    for policy in ("static", "steal-half"):
        told = tmp_path / f"{policy}.told"
        job = trained(2, folder, tmp_path / policy, "--policy", policy, script=["slow=1:0.15", f"told={told}"])
        assert job.returncode == 0
        done[policy] = Counter(told.read_text().split())
    assert done["static"].total() == done["steal-half"].total()
    assert done["steal-half"]["1"] < done["static"]["1"]
    assert digests(tmp_path / "static") == digests(tmp_path / "steal-half")
