"""Hosts that share no files: the same results, and what each has kept comes together after a kill."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import h5py
import pytest

from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.apart import Apart, kill_once_all_have_done_some, slides_and_model
from tests.dicoms import write_dicom_slide
from tests.tiffs import halved, textured

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

MODEL = ("--model", "model")
ONE = ("slides/b.tif", *MODEL, "-o", "out/b.h5", "--own-disks")
SEVERAL = ("slides", *MODEL, "--results-dir", "out", "--batch-size", "4", "--own-disks")
PATCHES = (
    "patches",
    "extract",
    "slides",
    "--size",
    "64",
    "--mpp",
    "0.25",
    "--pixels",
    "raw",
    "-o",
    "out",
    "--own-disks",
)
STEMS = ("a", "b")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What each host has: two slides and a model."""
    return slides_and_model(tmp_path_factory.mktemp("made"), (1200, 1000), with_features=True)


@pytest.fixture(scope="module")
def digests(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one rank makes of it, by file."""
    apart = Apart(tmp_path_factory.mktemp("alone"))
    apart.add(made, 0)
    assert apart.run([0], *SEVERAL).returncode == 0
    assert apart.run([0], *PATCHES).returncode == 0
    return {path.name: apart.digest(f"out/{path.name}") for path in (apart.host(0) / "out").glob("*.h5")}


@pytest.fixture
def apart(made: Path, tmp_path: Path) -> Apart:
    """Three hosts, and a fourth one to stand in for any."""
    apart = Apart(tmp_path)
    apart.add(made, 0, 1, 2, 3)
    return apart


def assert_nothing_is_left(apart: Apart, hosts: list[int], results: set[str]) -> None:
    """Results on the first host alone, and nothing beside them on any."""
    for host in set(hosts):
        left = {name for name in apart.names(host, "out") if not name.startswith(("summary", "run_metadata"))}
        assert left == (results if host == hosts[0] else set())
        assert not list(apart.scratch(host).iterdir())


@pytest.mark.parametrize("hosts", [[2, 0, 1], [0, 1, 1, 2, 0]], ids=str)
def test_the_results_are_those_of_one_rank_and_lie_on_rank_0s_host_alone(
    hosts: list[int], apart: Apart, digests: dict[str, str]
) -> None:
    shutil.rmtree(apart.host(1) / "out")  # it is made
    assert apart.run(hosts, *ONE).returncode == 0
    assert apart.digest("out/b.h5", hosts[0]) == digests["b.h5"]
    assert_nothing_is_left(apart, hosts, {"b.h5"})
    assert apart.run(hosts, *SEVERAL).returncode == 0
    assert apart.digest("out/a.h5", hosts[0]) == digests["a.h5"]
    assert_nothing_is_left(apart, hosts, {"a.h5", "b.h5"})


def tiles_from_journal(path: Path) -> int:
    with h5py.File(path) as file:
        return int(file["execution"].attrs["tiles_from_journal"])


@pytest.mark.parametrize("hosts", [[0, 1, 3], [3, 1, 2]], ids=str)
def test_after_a_kill_and_with_one_host_replaced_the_others_files_are_gone_on_with(
    hosts: list[int], apart: Apart, digests: dict[str, str]
) -> None:
    kill_once_all_have_done_some(apart, [0, 1, 2], "out/b.h5.journal/*.tiles", *ONE, "--features")
    files = sum(len(list((apart.host(host) / "out" / "b.h5.journal").glob("*.tiles"))) for host in hosts)
    job = apart.run(hosts, *ONE, "--features", "--resume")
    assert job.returncode == 0
    assert files == 2
    assert "going on from the journal" in job.stderr
    assert tiles_from_journal(apart.host(hosts[0]) / "out" / "b.h5") > 0
    assert_nothing_is_left(apart, hosts, {"b.h5"})
    assert apart.run([0], "slides/b.tif", *MODEL, "-o", "alone.h5", "--features").returncode == 0
    assert apart.digest("out/b.h5", hosts[0]) == apart.digest("alone.h5")


def test_killed_again_and_again_on_other_hosts_each_time_nothing_is_lost(apart: Apart, digests: dict[str, str]) -> None:
    kill_once_all_have_done_some(apart, [0, 1], "out/b.h5.journal/0001-*.tiles", *ONE)
    kill_once_all_have_done_some(apart, [2, 1], "out/b.h5.journal/0002-*.tiles", *ONE, "--resume")
    assert apart.run([3, 2, 0], *ONE, "--resume").returncode == 0
    assert apart.digest("out/b.h5", 3) == digests["b.h5"]
    assert_nothing_is_left(apart, [3, 2, 0], {"b.h5"})


def test_a_cohort_goes_on_with_one_host_replaced(apart: Apart, digests: dict[str, str]) -> None:
    hosts = [3, 1, 2]
    kill_once_all_have_done_some(apart, [0, 1, 2], "out/pyramidai.journal/*.tiles", *SEVERAL)
    job = apart.run(hosts, *SEVERAL, "--resume")
    assert job.returncode == 0
    assert "going on from the journal" in job.stderr
    for stem in STEMS:
        assert apart.digest(f"out/{stem}.h5", hosts[0]) == digests[f"{stem}.h5"]
    assert_nothing_is_left(apart, hosts, {"a.h5", "b.h5"})


def test_patches_go_on_with_one_host_replaced(apart: Apart, digests: dict[str, str]) -> None:
    hosts = [3, 1, 2]
    kill_once_all_have_done_some(apart, [0, 1, 2], "out/pyramidai.journal/*.tiles", *PATCHES)
    assert apart.run(hosts, *PATCHES, "--resume").returncode == 0
    names = {f"{stem}.patches.h5" for stem in STEMS}
    for name in names:
        assert apart.digest(f"out/{name}", hosts[0]) == digests[name]
    assert_nothing_is_left(apart, hosts, names)


def test_what_another_host_has_not_finished_is_refused_unless_told_what_to_do(
    apart: Apart, digests: dict[str, str]
) -> None:
    kill_once_all_have_done_some(apart, [1, 2], "out/b.h5.journal/*.tiles", *ONE)
    job = apart.run([0, 1], *ONE)
    assert job.returncode == 73
    assert "an earlier run was not finished on host" in job.stderr
    assert apart.names(0, "out") == set()
    job = apart.run([0, 1, 2], *ONE, "--overwrite")
    assert job.returncode == 0
    assert apart.digest("out/b.h5") == digests["b.h5"]
    assert_nothing_is_left(apart, [0, 1, 2], {"b.h5"})


def test_journals_of_two_runs_are_not_mixed(apart: Apart) -> None:
    kill_once_all_have_done_some(apart, [0], "out/b.h5.journal/*.tiles", *ONE)
    kill_once_all_have_done_some(apart, [1], "out/b.h5.journal/*.tiles", *ONE)
    job = apart.run([0, 1], *ONE, "--resume")
    assert job.returncode == 65
    assert "is the journal of another run on host" in job.stderr
    assert "Traceback" not in job.stderr
    assert not job.left_over


def test_what_was_mixed_on_a_host_that_is_not_rank_0s_is_said_by_the_result(apart: Apart) -> None:
    kill_once_all_have_done_some(apart, [0, 1], "out/b.h5.journal/*.tiles", *ONE)
    journal = JournalFolder.of(apart.host(1) / "out" / "b.h5")
    manifest = journal.manifest()
    assert manifest is not None
    # as a start on other hosts writes it there, which has another processor
    journal.create(replace(manifest, later_starts=({"cpu": "another processor"},)))
    assert apart.run([0, 1], *ONE, "--resume").returncode == 0
    with h5py.File(apart.host(0) / "out" / "b.h5") as file:
        assert "another processor" in file["execution"].attrs["mixed"]


@pytest.mark.parametrize("several", [True, False])
def test_another_runs_journal_that_came_meanwhile_ends_that_slide_alone_and_stays(
    several: bool, apart: Apart, digests: dict[str, str]
) -> None:
    words = SEVERAL if several else ("slides/a.tif", *MODEL, "-o", "out/a.h5", "--own-disks")
    program = [str(REPOSITORY / "tests" / "faults" / "run_beside_another.py")]
    job = apart.run([0, 1], "a", *words, program=program)
    assert job.returncode == (4 if several else 65)
    assert "is the journal of another run on host" in job.stderr
    assert "Traceback" not in job.stderr
    assert apart.names(1, "out") == {"a.h5.journal"} | ({"pyramidai.journal"} if several else set())
    found = JournalFolder.of(apart.host(1) / "out" / "a.h5").manifest()
    assert found is not None
    assert found.run_hash == "ab" * 32
    if several:
        assert apart.digest("out/b.h5") == digests["b.h5"]
    assert not job.left_over


def test_a_finished_result_takes_no_journal_of_another_run_away(apart: Apart) -> None:
    assert apart.run([0], *ONE).returncode == 0
    kill_once_all_have_done_some(apart, [1, 0], "out/b.h5.journal/*.tiles", *ONE, "--threshold", "0=0.9")
    kept = [sorted(apart.names(host, "out/b.h5.journal")) for host in (0, 1)]
    job = apart.run([0, 1], *ONE, "--resume")
    assert job.returncode == 0
    assert "is there already, complete" in job.stderr
    assert job.stderr.count("is the journal of another run than the finished result's") == 2
    assert [sorted(apart.names(host, "out/b.h5.journal")) for host in (0, 1)] == kept


def test_another_slide_on_one_host_is_named(apart: Apart) -> None:
    with (apart.host(1) / "slides" / "b.tif").open("ab") as file:
        file.write(b"more")
    job = apart.run([0, 1], *ONE)
    assert job.returncode == 65
    assert "the slide is another one on host" in job.stderr
    assert_nothing_is_left(apart, [0, 1], set())


def test_with_slide_sha256_a_bit_that_the_quick_hash_leaves_out_is_seen(apart: Apart) -> None:
    for host in (0, 1):
        with (apart.host(host) / "slides" / "b.tif").open("r+b") as file:
            file.seek(0, 2)
            file.truncate(12 << 20)  # zeros after the slide, of which the quick hash reads some
            file.seek(3_000_000 + 100_000)
            file.write(bytes([host]))
    assert apart.run([0, 1], *ONE, "--slide-sha256").returncode == 65
    job = apart.run([0, 1], *ONE)
    assert job.returncode == 0


def test_a_host_where_the_folder_cannot_be_made_ends_all_with_one_line(apart: Apart) -> None:
    shutil.rmtree(apart.host(1) / "out")
    (apart.host(1) / "out").write_text("somebody's")
    job = apart.run([0, 1], *ONE)
    assert job.returncode == 74
    lines = [line for line in job.stderr.splitlines() if "pyramidai: error: " in line]
    assert lines
    assert all("(rank 1, host " in line for line in lines)
    assert not job.left_over


@pytest.mark.parametrize(("words", "is_there"), [(ONE, True), (PATCHES, False)], ids=["run", "patches"])
def test_without_the_option_the_line_names_it(words: tuple[str, ...], is_there: bool, apart: Apart) -> None:
    if not is_there:
        shutil.rmtree(apart.host(1) / "out")
    job = apart.run([0, 1], *words[:-1])
    assert job.returncode == 74
    assert ("is another folder here" if is_there else "no such folder here") in job.stderr
    assert "give --own-disks" in job.stderr


def test_a_command_that_lacks_the_option_does_not_name_it(apart: Apart) -> None:
    job = apart.run([0, 1], "segment", "slides/b.tif", *MODEL, "-o", "out/b.h5")
    assert job.returncode == 74
    assert "is another folder here" in job.stderr
    assert "--own-disks" not in job.stderr


def test_writing_by_all_ranks_is_refused(apart: Apart) -> None:
    job = apart.run([0, 1], *ONE, "--writer", "mpio")
    assert job.returncode == 64
    assert "--own-disks" in job.stderr


@pytest.fixture
def only_on_rank_0s(made: Path, tmp_path: Path) -> Apart:
    """Three hosts, of which the first alone has slides and model."""
    apart = Apart(tmp_path)
    apart.add(made, 0)
    for host in (1, 2, 3):
        apart.host(host).mkdir()
    return apart


def sent(words: tuple[str, ...]) -> list[str]:
    return [*words[:-1], "--send-slide"]


@pytest.mark.parametrize("hosts", [[0, 1, 1, 2, 0]], ids=str)
def test_slides_and_model_are_sent_to_who_lacks_them_and_are_gone_at_the_end(
    hosts: list[int], only_on_rank_0s: Apart, digests: dict[str, str]
) -> None:
    apart = only_on_rank_0s
    job = apart.run(hosts, *sent(ONE))
    assert job.returncode == 0
    assert job.stderr.count("sending b.tif") == 1
    assert apart.digest("out/b.h5") == digests["b.h5"]
    assert_nothing_is_left(apart, hosts, {"b.h5"})
    job = apart.run(hosts, *sent(SEVERAL), "--resume")
    assert job.returncode == 0
    assert "sending b.tif" not in job.stderr  # its result is there
    assert apart.digest("out/a.h5") == digests["a.h5"]
    assert_nothing_is_left(apart, hosts, {"a.h5", "b.h5"})
    job = apart.run(hosts, *sent(PATCHES))
    assert job.returncode == 0
    assert apart.digest("out/a.patches.h5") == digests["a.patches.h5"]
    assert_nothing_is_left(apart, hosts, {"a.h5", "b.h5", "a.patches.h5", "b.patches.h5"})


def test_what_lies_on_a_host_already_is_not_sent_and_another_file_of_the_name_is_not_used(
    apart: Apart, digests: dict[str, str]
) -> None:
    with (apart.host(2) / "slides" / "b.tif").open("ab") as file:
        file.write(b"more")
    job = apart.run([0, 1, 2], *sent(ONE))
    assert job.returncode == 0
    assert "sending b.tif" in job.stderr
    assert "to 1 host" in job.stderr
    assert "sending model" not in job.stderr
    assert apart.digest("out/b.h5") == digests["b.h5"]


def test_killed_while_slides_are_sent_or_analysed_the_next_start_sends_them_anew(
    only_on_rank_0s: Apart, digests: dict[str, str]
) -> None:
    apart = only_on_rank_0s
    kill_once_all_have_done_some(apart, [0, 1, 2], "out/b.h5.journal/*.tiles", *sent(ONE))
    assert list(apart.scratch(1).iterdir())
    assert apart.run([0, 3, 1], *sent(ONE), "--resume").returncode == 0
    assert apart.digest("out/b.h5") == digests["b.h5"]
    assert_nothing_is_left(apart, [0, 3, 1], {"b.h5"})


def test_a_slide_that_rank_0_lacks_is_refused(only_on_rank_0s: Apart) -> None:
    job = only_on_rank_0s.run([1, 0], *sent(ONE))
    assert job.returncode == 65
    assert "Traceback" not in job.stderr
    assert not list(only_on_rank_0s.scratch(0).iterdir())


@pytest.mark.parametrize("left", [1, 2])
def test_a_slide_of_a_cohort_that_cannot_be_sent_ends_alone_the_last_one_too(
    left: int, only_on_rank_0s: Apart, digests: dict[str, str]
) -> None:
    apart = only_on_rank_0s
    if left == 1:
        assert apart.run([0], *SEVERAL).returncode == 0
        (apart.host(0) / "out" / "a.h5").unlink()
    (apart.host(0) / "slides" / "a.tif").write_bytes(b"no slide")
    job = apart.run([0, 1], *sent(SEVERAL))
    assert job.returncode == 4
    assert "1 of 2 slides failed" in job.stderr
    assert "Traceback" not in job.stderr
    assert apart.digest("out/b.h5") == digests["b.h5"]
    assert_nothing_is_left(apart, [0, 1], {"b.h5"})


ANALYSE = """
import sys
from mpi4py import MPI
import pyramidai_mpi
slide, output = sys.argv[1:]
pyramidai_mpi.analyse(slide, "model", comm=MPI.COMM_WORLD, output=output, send_slide=True)
"""


def test_of_a_folder_of_dicom_files_that_a_program_names_rank_0_says_which_stands_for_it(
    only_on_rank_0s: Apart,
) -> None:
    apart = only_on_rank_0s
    write_dicom_slide(apart.host(0) / "dicom", [textured(768, 768), halved(textured(768, 768))])
    for host in (0, 1):
        (apart.host(host) / "out").mkdir(exist_ok=True)
    job = apart.run([0, 1], "dicom", "out/d.h5", program=["-c", ANALYSE])
    assert job.returncode == 0, job.stderr
    assert apart.run([0], "dicom", *MODEL, "-o", "alone.h5").returncode == 0
    assert apart.digest("out/d.h5") == apart.digest("alone.h5")
    assert_nothing_is_left(apart, [0, 1], {"d.h5"})


def test_a_folder_for_what_is_sent_has_to_be_there(only_on_rank_0s: Apart) -> None:
    job = only_on_rank_0s.run([0, 1], *sent(ONE), "--scratch", "nowhere")
    assert job.returncode == 74
    assert "nowhere: no such folder" in job.stderr
    assert not job.left_over
