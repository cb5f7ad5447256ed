"""The sbatch files of bench/scale/slurm, as they are, on a real SLURM: nothing but options and environment is given."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
import time
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import pytest

from bench.faults.one_dies import ORDER, Death
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY, processes_of
from tests.cluster.conftest import plain_slide
from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cluster.conftest import Reference, Slurm

ONE_SLIDE, COHORT, ARRAY, REQUEUE, PARTS = (
    REPOSITORY / f"bench/scale/slurm/{name}.sbatch" for name in ("one_slide", "cohort", "array", "requeue", "parts")
)
THREE_NODES = ("--nodes=3", "--ntasks-per-node=2", "--mem-per-cpu=100")


@pytest.fixture
def slide_list(reference: Reference, tmp_path: Path) -> Path:
    """A file with one slide a line."""
    path = tmp_path / "slides.txt"
    path.write_text("".join(f"{slide}\n" for slide in reference.slides))
    return path


def test_one_slide_on_three_nodes_gives_the_digest_of_one_rank(
    slurm: Slurm, reference: Reference, tmp_path: Path
) -> None:
    arguments = (reference.slides[0], "out.h5", "--model", reference.model)
    job = slurm.submit(*THREE_NODES, ONE_SLIDE, *arguments, cwd=tmp_path)
    assert slurm.exit_codes(job, cwd=tmp_path) == [0]
    assert read_digest(tmp_path / "out.h5") == reference.digests[0]
    with h5py.File(tmp_path / "out.h5") as file:
        assert file["execution/ranks"]["host"].tolist() == [b"n1", b"n1", b"n2", b"n2", b"n3", b"n3"]


def test_a_cohort_gives_the_digests_of_one_rank(
    slurm: Slurm, reference: Reference, slide_list: Path, tmp_path: Path
) -> None:
    job = slurm.submit(*THREE_NODES, COHORT, slide_list, "results", "--model", reference.model, cwd=tmp_path)
    assert slurm.exit_codes(job, cwd=tmp_path) == [0]
    assert [read_digest(tmp_path / "results" / f"{slide.stem}.h5") for slide in reference.slides] == reference.digests


def test_an_array_gives_the_digests_of_one_rank_and_each_task_its_exit_code(
    slurm: Slurm, reference: Reference, slide_list: Path, tmp_path: Path
) -> None:
    options = ("--array=1-4%2", "--ntasks-per-node=2", "--mem-per-cpu=100")  # the list has three lines
    job = slurm.submit(*options, ARRAY, slide_list, "results", "--model", reference.model, cwd=tmp_path)
    assert sorted(slurm.exit_codes(job, cwd=tmp_path)) == [0, 0, 0, 64]
    assert [read_digest(tmp_path / "results" / f"{slide.stem}.h5") for slide in reference.slides] == reference.digests
    assert "slides.txt has no line 4" in (tmp_path / f"pyramidai-array-{job}_4.out").read_text()


def test_parts_in_arrays_within_the_limit_give_the_digest_of_one_rank_and_only_a_failed_one_is_done_again(
    slurm: Slurm, reference: Reference, tmp_path: Path
) -> None:
    slide, results = tmp_path / "one.tif", tmp_path / "results"
    words = ("5", slide, results, "--model", reference.model)

    def call() -> list[list[int]]:
        said = slurm.run("env", "PYRAMIDAI_ARRAY_LIMIT=2", "bash", PARTS, *words, cwd=tmp_path)
        return [slurm.exit_codes(job, cwd=tmp_path) for job in re.findall(r"Submitted batch job (\d+)", said)]

    shutil.copy(reference.slides[0], slide)
    assert call() == [[0, 0], [0, 0], [0]]
    assert not (results / "one.h5").exists()
    (results / "one.part-4-of-5.h5").unlink()
    assert call() == [[0]]
    assert call() == []
    assert read_digest(results / "one.h5") == reference.digests[0]
    assert sorted(path.name for path in tmp_path.glob("*.out"))[0].startswith("pyramidai-part-")


def test_the_exit_code_reaches_slurm(slurm: Slurm, reference: Reference, tmp_path: Path) -> None:
    job = slurm.submit(*THREE_NODES, ONE_SLIDE, "gone.tif", "out.h5", "--model", reference.model, cwd=tmp_path)
    assert slurm.exit_codes(job, cwd=tmp_path) == [65]
    assert "pyramidai: error: gone.tif: no such slide" in (tmp_path / f"pyramidai-{job}.out").read_text()


def test_a_rank_computes_in_one_thread_and_scancel_leaves_no_process_and_no_file(slurm: Slurm, tmp_path: Path) -> None:
    slide = plain_slide(tmp_path / "large.tif", 16384)
    # 344000 tiles, one by one: far more than the five seconds until the first word of progress
    model = write_package(tmp_path / "model", side=32, thresholds=(0.5, 0.0, 0.0))
    tag = uuid.uuid4().hex
    slowly = ("--model", model, "--batch-size", "1")
    job = slurm.submit(*THREE_NODES, ONE_SLIDE, slide, "out.h5", *slowly, cwd=tmp_path, tag=tag)
    output = tmp_path / f"pyramidai-{job}.out"
    wait_until(lambda: output.exists() and "tiles/s" in output.read_text(), timeout=120)
    ranks = [pid for pid in processes_of(tag) if Path(f"/proc/{pid}/exe").resolve() == Path(sys.executable).resolve()]
    assert len(ranks) == 6
    # one computes; the main one has loaded the libraries and carries messages; a pool would be as busy as its caller.
    # The slide's owner has one more, which collects what all do: of tiny tiles that is as much as it computes
    *others, most = sorted(map(busy_threads, ranks))
    assert max(others) <= 2
    assert most <= 3
    slurm.run("scancel", job, cwd=tmp_path)
    wait_until(lambda: not processes_of(tag), timeout=60)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".h5"]


def test_a_job_that_is_told_to_stop_queues_again_and_goes_on(slurm: Slurm, tmp_path: Path) -> None:
    slide = plain_slide(tmp_path / "large.tif", 4096)
    model = write_package(tmp_path / "model", side=32, thresholds=(0.5, 0.0, 0.0))
    assert pyramidai(slide, "--model", model, "-o", tmp_path / "undisturbed.h5", ranks=2).returncode == 0
    slowly = ("--model", model, "--batch-size", "1")  # so that it is still analysing when the second signal arrives
    job = slurm.submit(*THREE_NODES, REQUEUE, slide, "out.h5", *slowly, cwd=tmp_path)
    for _ in range(2):
        files = len(list(tmp_path.glob("out.h5.journal/*.tiles")))
        wait_until(lambda files=files: len(list(tmp_path.glob("out.h5.journal/*.tiles"))) == files + 6, timeout=60)
        slurm.run("scancel", "--signal=USR1", job, cwd=tmp_path)
    assert slurm.exit_codes(job, cwd=tmp_path) == [0]
    said = (tmp_path / f"pyramidai-requeue-{job}.out").read_text()
    assert said.count("the same command with --resume goes on") == 2
    assert said.count("going on from the journal") == 2
    assert read_digest(tmp_path / "out.h5") == read_digest(tmp_path / "undisturbed.h5")


@pytest.mark.parametrize(("kills", "stage"), [(0, "opening"), (0, "running"), (0, "ending"), (1, "running")])
def test_no_process_waits_for_one_that_has_died(
    kills: int, stage: str, slurm: Slurm, reference: Reference, tmp_path: Path
) -> None:
    death = Death("rank", 3, stage, "kill", False, str(tmp_path), limit_s=6.0)
    words = [sys.executable, "-m", "bench.faults.one_dies", "as-rank", reference.slides[0], "-o", tmp_path / "out.h5"]
    command = shlex.join(map(str, [*words, "--model", reference.model, "--batch-size", "1", "--no-progress"]))
    script = tmp_path / "job.sbatch"
    order = shlex.quote(json.dumps(asdict(death)))
    script.write_text(f"#!/bin/bash\nexport {ORDER}={order}\nsrun --kill-on-bad-exit={kills} {command}\n")
    tag = uuid.uuid4().hex
    job = slurm.submit(*THREE_NODES, script, cwd=tmp_path, tag=tag)
    wait_until(lambda: (tmp_path / "died").exists(), timeout=60)
    wait_until(lambda: not processes_of(tag), timeout=60)
    said = (tmp_path / f"slurm-{job}.out").read_text()
    # a rank that sends to a dead one crashes in MPICH 5 before it can notice; while opening none does
    assert kills or stage != "opening" or "nothing was heard of rank 3 for 6 s" in said, said


def busy_threads(pid: int) -> int:
    """Threads of a process with at least a third of the busiest one's processor time in user mode."""
    stats = [stat.read_text().rpartition(")")[2].split() for stat in Path(f"/proc/{pid}/task").glob("*/stat")]
    ticks = [int(fields[11]) for fields in stats]
    return sum(3 * of_thread >= max(ticks) for of_thread in ticks)


def wait_until(condition: Callable[[], bool], timeout: float = 30) -> None:
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.1)
