"""Over several hosts the result is that of one process; a host that sees other files is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.store.results.reader import read_digest
from tests.cluster.conftest import plain_slide

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job
    from tests.cluster.conftest import Hosts, Reference


def assert_bad_input_on(host: str, job: Job) -> None:
    """Exit code 65, and nothing of ours on stderr but lines that name the host."""
    assert job.returncode == 65
    assert "Traceback" not in job.stderr
    lines = [line for line in job.stderr.splitlines() if "pyramidai: error: " in line]
    assert lines
    for line in lines:
        assert f"host {host}" in line
    assert not job.left_over


def test_three_hosts_give_the_digest_of_one_rank(hosts: Hosts, reference: Reference, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    job = hosts.pyramidai(reference.slides[0], "--model", reference.model, "-o", output)
    assert job.returncode == 0
    assert not job.left_over
    assert read_digest(output) == reference.digests[0]
    with h5py.File(output) as file:
        assert file["execution"].attrs["hosts"] == "n1, n2, n3"
        assert file["execution/ranks"]["host"].tolist() == [b"n1", b"n1", b"n2", b"n2", b"n3", b"n3"]


def test_a_cohort_over_three_hosts_gives_the_digests_of_one_rank(
    hosts: Hosts, reference: Reference, tmp_path: Path
) -> None:
    job = hosts.pyramidai(*reference.slides, "--model", reference.model, "--results-dir", tmp_path)
    assert job.returncode == 0
    assert not job.left_over
    assert [read_digest(tmp_path / f"{slide.stem}.h5") for slide in reference.slides] == reference.digests


@pytest.mark.parametrize("host", ["n1", "n3"], ids=["the host of rank 0", "another host"])
def test_a_host_with_another_slide_is_named(host: str, hosts: Hosts, reference: Reference, tmp_path: Path) -> None:
    slide, other, _ = reference.slides
    with hosts.another_file(host, slide, other):
        job = hosts.pyramidai(slide, "--model", reference.model, "-o", tmp_path / "out.h5")
    assert_bad_input_on(host, job)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("n_slides", [1, 2], ids=["one slide", "a cohort"])
def test_a_host_with_another_model_is_named(n_slides: int, hosts: Hosts, reference: Reference, tmp_path: Path) -> None:
    text = (reference.model / "model.yaml").read_text()
    (tmp_path / "other.yaml").write_text(text.replace("threshold: 0.3", "threshold: 0.31"))
    with hosts.another_file("n2", reference.model / "model.yaml", tmp_path / "other.yaml"):
        job = hosts.pyramidai(*(*reference.slides[:n_slides], "--model", reference.model, "--results-dir", tmp_path))
    assert_bad_input_on("n2", job)
    assert not list(tmp_path.glob("*.h5"))


def test_a_host_without_the_slide_is_named(hosts: Hosts, reference: Reference, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    folder = tmp_path / "slides"
    folder.mkdir()
    slide = folder / "slide.tif"
    slide.write_bytes(reference.slides[1].read_bytes())
    with hosts.another_file("n2", folder, tmp_path / "empty"):
        job = hosts.pyramidai(slide, "--model", reference.model, "-o", tmp_path / "out.h5")
    assert_bad_input_on("n2", job)


def test_in_a_cohort_a_host_with_another_slide_is_named_and_the_other_slides_finish(
    hosts: Hosts, reference: Reference, tmp_path: Path
) -> None:
    # One rank a host: n1 opens this slide and owns it, and n3, whose own slide is small, soon takes some of its tiles.
    slide = plain_slide(tmp_path / "large.tif", 4096)
    other = tmp_path / "other.tif"
    other.write_bytes(slide.read_bytes() + b"more")
    cohort = [slide, reference.slides[1], reference.slides[0]]
    options = ["--model", reference.model, "--results-dir", tmp_path, "--mode", "exhaustive"]
    with hosts.another_file("n3", slide, other):
        job = hosts.pyramidai(*cohort, *options, ranks_per_host=1)
    assert job.returncode == 4
    assert "1 of 3 slides failed" in job.stderr
    assert f"{slide}: the slide is another one on host n3 than on host n1" in job.stderr
    assert not (tmp_path / "large.h5").exists()
    assert all((tmp_path / f"{other.stem}.h5").exists() for other in cohort[1:])
    assert not job.left_over
