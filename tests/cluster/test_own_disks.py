"""Three hosts that share no file but the program: a disk of its own lies under one name on each."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.cli.digest import digest_of_file
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import launcher, started
from tests.apart import SLOWLY
from tests.cluster.conftest import COMPUTE_HOSTS, Reference
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide
from tests.faults.conftest import THRESHOLDS
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.testing.launch import Job
    from tests.cluster.conftest import Hosts

OPTIONS = {"every host has the slides": "--own-disks", "rank 0's has": "--send-slide"}
PATCHES = ("--size", "64", "--mpp", "0.5", "--pixels", "raw")


@dataclass(frozen=True)
class Disks:
    """A file system of its own on each host, under the same name.

    Attributes
    ----------
    hosts
        The hosts.
    path
        Its name: below it lie slides, model, results and what is sent.
    shared
        Folder that all hosts see, for the test.
    """

    hosts: Hosts
    path: Path
    shared: Path

    def put(self, host: str, size: str = "64m") -> None:
        """Give a host an empty disk."""
        self.hosts.on(host, "mount", "-t", "tmpfs", "-o", f"size={size}", "disk", self.path)
        for name in ("out", "scratch"):
            self.hosts.on(host, "mkdir", self.path / name)

    def replace(self, host: str, work: Reference | None = None) -> None:
        """Let an empty host take the place of one, or one that has slides and model."""
        self.hosts.on(host, "umount", "-l", self.path)
        self.put(host)
        if work is not None:
            self.fill(host, work)

    def fill(self, host: str, work: Reference) -> None:
        """Put slides and model onto a host's disk."""
        self.hosts.on(host, "cp", "-r", *work.slides, work.model, self.path)

    def names(self, host: str, folder: str) -> set[str]:
        """What lies in a folder of a host."""
        done = subprocess.run(
            [*self._on(host), "ls", "-A", self.path / folder], check=True, capture_output=True, text=True
        )
        return set(done.stdout.split())

    def digest(self, host: str, name: str) -> str:
        """Of a result on a host."""
        copy = self.shared / f"copy-{name}"
        self.hosts.on(host, "cp", self.path / "out" / name, copy)
        return digest_of_file(copy)

    def run(self, *words: str | Path, ranks_of: Mapping[str, int] | None = None) -> Job:
        """Run the command."""
        return self.hosts.pyramidai(*words, *self._scratch(words), ranks_of=ranks_of, ranks_per_host=1)

    def kill_all_amid(self, journals: str, *words: str | Path) -> None:
        """Run the command slowly, and kill all ranks once each host has journalled something."""
        options, environment = self.hosts.launching(dict.fromkeys(COMPUTE_HOSTS, 1))
        program = [sys.executable, str(SLOWLY), "0.1", *map(str, (*words, *self._scratch(words)))]
        command = [launcher(), *options, "-n", "3", *program]
        begin = ["-c", "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])", *command]
        seen = f"find {self.path}/out/{journals} -name '*.tiles' -size +1k | grep -q ."
        with started(None, begin, environment, under=self._on("n1")) as job:
            assert job.wait_until(lambda: all(self._is_so(host, seen) for host in COMPUTE_HOSTS)), job.output()

    def _is_so(self, host: str, test: str) -> bool:
        done = subprocess.run([*self._on(host), "sh", "-c", test], check=False, stderr=subprocess.DEVNULL)
        return done.returncode == 0

    def _scratch(self, words: Sequence[str | Path]) -> list[str | Path]:
        return ["--scratch", self.path / "scratch"] if "--send-slide" in words else []

    def assert_nothing_is_left(self, host_of_results: str, results: set[str]) -> None:
        """Results on one host alone, and nothing beside them on any."""
        for host in COMPUTE_HOSTS:
            left = {one for one in self.names(host, "out") if not one.startswith(("summary", "run_metadata"))}
            assert left == (results if host == host_of_results else set())
            assert not self.names(host, "scratch")

    def _on(self, host: str) -> list[str]:
        return [str(self.hosts.script), "on", str(self.hosts.folder), host]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Slides of some hundred tiles each, a model, and the digests of one rank's results."""
    folder = tmp_path_factory.mktemp("work")
    slides = [folder / "one.tif", tissue_slide(folder / "square.tif")]
    write_slide(SynthSpec(1200, 1000, seed=2), slides[0])
    model = write_package(folder / "model", side=32, gain=0.05, thresholds=THRESHOLDS)
    assert pyramidai(*slides, "--model", model, "--results-dir", folder).returncode == 0
    return Reference(slides, model, [digest_of_file(slide.with_suffix(".h5")) for slide in slides])


@pytest.fixture
def disks(hosts: Hosts, tmp_path: Path) -> Iterator[Disks]:
    """Empty disks on n1, n2 and n3."""
    path = tmp_path / "disk"
    path.mkdir()
    disks = Disks(hosts, path, tmp_path)
    for host in COMPUTE_HOSTS:
        disks.put(host)
    yield disks
    for host in COMPUTE_HOSTS:
        hosts.on(host, "umount", "-l", path)


def one(disks: Disks, work: Reference, option: str) -> list[str | Path]:
    slide, model = (disks.path / path.name for path in (work.slides[0], work.model))
    return [slide, "--model", model, "-o", disks.path / "out" / "one.h5", option]


def several(disks: Disks, work: Reference, option: str) -> list[str | Path]:
    slides = [disks.path / slide.name for slide in work.slides]
    return [*slides, "--model", disks.path / work.model.name, "--results-dir", disks.path / "out", option]


def fill(disks: Disks, work: Reference, option: str) -> None:
    for host in COMPUTE_HOSTS if option == "--own-disks" else ["n1"]:
        disks.fill(host, work)


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
def test_one_digest_for_one_to_six_ranks(option: str, disks: Disks, work: Reference) -> None:
    fill(disks, work, option)
    for ranks in range(1, 7) if option == "--own-disks" else (2, 4, 6):
        of_hosts = [(ranks + 2 - n) // 3 for n in range(3)]
        ranks_of = {host: n for host, n in zip(COMPUTE_HOSTS, of_hosts, strict=True) if n}
        job = disks.run(*one(disks, work, option), "--overwrite", ranks_of=ranks_of)
        assert job.returncode == 0
        assert not job.left_over
        assert disks.digest("n1", "one.h5") == work.digests[0]
        disks.assert_nothing_is_left("n1", {"one.h5"})


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("replaced", ["n1", "n3"], ids=["rank 0's", "another"])
def test_all_killed_and_one_host_replaced_by_an_empty_one(
    replaced: str, option: str, disks: Disks, work: Reference
) -> None:
    fill(disks, work, option)
    disks.kill_all_amid("one.h5.journal", *one(disks, work, option))
    # of an empty host in the place of rank 0's, which is to send them, the slides have to come from somewhere
    disks.replace(replaced, work if option == "--own-disks" or replaced == "n1" else None)
    job = disks.run(*one(disks, work, option), "--resume")
    assert job.returncode == 0
    assert "going on from the journal" in job.stderr
    assert disks.digest("n1", "one.h5") == work.digests[0]
    disks.assert_nothing_is_left("n1", {"one.h5"})


def test_rank_0_on_another_host_than_before(disks: Disks, work: Reference) -> None:
    fill(disks, work, "--own-disks")
    disks.kill_all_amid("one.h5.journal", *one(disks, work, "--own-disks"))
    job = disks.run(*one(disks, work, "--own-disks"), "--resume", ranks_of={"n2": 2, "n1": 1, "n3": 1})
    assert job.returncode == 0
    assert disks.digest("n2", "one.h5") == work.digests[0]
    disks.assert_nothing_is_left("n2", {"one.h5"})


@pytest.mark.parametrize("replaced", ["n1", "n3"], ids=["rank 0's", "another"])
def test_a_cohort_is_killed_and_resumed_with_one_host_replaced(replaced: str, disks: Disks, work: Reference) -> None:
    fill(disks, work, "--send-slide")
    disks.kill_all_amid("pyramidai.journal", *several(disks, work, "--send-slide"))
    disks.replace(replaced, work if replaced == "n1" else None)
    assert disks.run(*several(disks, work, "--send-slide"), "--resume").returncode == 0
    names = [f"{slide.stem}.h5" for slide in work.slides]
    assert [disks.digest("n1", name) for name in names] == work.digests
    disks.assert_nothing_is_left("n1", set(names))


def test_patches_are_killed_and_resumed_with_one_host_replaced(disks: Disks, work: Reference) -> None:
    fill(disks, work, "--send-slide")
    slides = [disks.path / slide.name for slide in work.slides]
    words = ["patches", "extract", *slides, *PATCHES, "-o", disks.path / "out", "--send-slide"]
    disks.kill_all_amid("pyramidai.journal", *words)
    disks.replace("n2")
    assert disks.run(*words, "--resume").returncode == 0
    (disks.shared / "alone").mkdir()
    assert pyramidai("patches", "extract", *work.slides, *PATCHES, "-o", disks.shared / "alone").returncode == 0
    names = [f"{slide.stem}.patches.h5" for slide in work.slides]
    for name in names:
        assert disks.digest("n1", name) == digest_of_file(disks.shared / "alone" / name)
    disks.assert_nothing_is_left("n1", set(names))


def test_a_host_without_room_for_what_is_sent_ends_all_with_one_line(disks: Disks, work: Reference) -> None:
    fill(disks, work, "--send-slide")
    disks.hosts.on("n2", "umount", "-l", disks.path)
    disks.put("n2", "40k")
    job = disks.run(*one(disks, work, "--send-slide"))
    assert_74_on("n2", job)
    assert "GB free, and what is sent takes" in job.stderr
    disks.assert_nothing_is_left("n1", set())


def test_a_host_whose_disk_is_full_ends_all_with_one_line_and_resume_goes_on(disks: Disks, work: Reference) -> None:
    fill(disks, work, "--own-disks")
    words = one(disks, work, "--own-disks")
    disks.hosts.on("n3", "sh", "-c", f"cat /dev/zero >{disks.path}/filler 2>&1 || true")
    job = disks.run(*words)
    assert_74_on("n3", job)
    disks.hosts.on("n3", "rm", disks.path / "filler")
    assert disks.run(*words, "--resume").returncode == 0
    assert disks.digest("n1", "one.h5") == work.digests[0]
    disks.assert_nothing_is_left("n1", {"one.h5"})


def assert_74_on(host: str, job: Job) -> None:
    assert job.returncode == 74
    lines = [line for line in job.stderr.splitlines() if "pyramidai: error: " in line]
    assert lines
    assert all(f"host {host}" in line for line in lines)
    assert "Traceback" not in job.stderr
    assert not job.left_over
