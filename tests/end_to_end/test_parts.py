"""Parts of a slide, made apart and joined, are the run in one piece; what is missing or wrong is named."""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import REPOSITORY, kill, started
from tests.commands import commands
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.packages import write_package

if TYPE_CHECKING:
    import os
    from pathlib import Path

pytestmark = pytest.mark.mpi

SLOWLY = REPOSITORY / "tests" / "faults" / "run_slowly.py"
OF = 7


@dataclass(frozen=True)
class Case:
    """A damaged slide, a model of 64 roots on it, results in one piece, and seven parts of the first with features."""

    folder: Path

    def run(self, output: Path, *options: str | os.PathLike[str], slide: str = "slide.tif") -> list[str]:
        return [
            *("run", str(self.folder / slide), "--model", str(self.folder / "model"), "-o", str(output)),
            *map(str, options),
        ]

    def part(self, number: int) -> Path:
        return self.folder / "parts" / f"out.part-{number}-of-{OF}.h5"

    @property
    def whole(self) -> Path:
        return self.folder / "whole.h5"

    def copied(self, folder: Path, *numbers: int) -> Path:
        """A folder with these parts."""
        for number in numbers:
            shutil.copy(self.part(number), folder)
        return folder


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("parts")
    wipe_tile(tissue_slide(folder / "slide.tif"), 5)
    write_package(
        folder / "model", side=32, gain=0.05, thresholds=(0.36, 6.5e-5, 9.9e-6), with_features=True
    )  # about half of the tiles are zoomed into
    (folder / "parts").mkdir()
    case = Case(folder)
    parts = [
        case.run(folder / "parts" / "out.h5", "--features", "--part", f"{number}/{OF}") for number in range(1, OF + 1)
    ]
    ended = commands(case.run(case.whole, "--features"), *parts)
    assert ended[0].returncode == 3
    assert {one.returncode for one in ended[1:]} == {0, 3}
    return case


def tables_of(path: Path) -> dict[str, np.ndarray]:
    """All tables of a result but those that say how it came about."""
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: h5py.HLObject) -> None:
        if isinstance(item, h5py.Dataset) and not name.startswith("execution"):
            found[name] = item[...]

    with h5py.File(path) as file:
        file.visititems(take)
    return found


def assert_same_tables(found: Path, expected: Path, *, are_parts: bool = False) -> None:
    assert read_digest(found, may_be_part=are_parts) == read_digest(expected, may_be_part=are_parts)
    here, there = tables_of(found), tables_of(expected)
    assert here.keys() == there.keys()
    for name in there:
        if there[name].dtype.names:
            assert here[name].tolist() == there[name].tolist()
        else:
            np.testing.assert_array_equal(here[name], there[name])


def test_parts_joined_are_the_run_in_one_piece_with_features_and_unreadable_tiles(case: Case, tmp_path: Path) -> None:
    numbers = range(1, OF + 1)
    folder = case.copied(tmp_path, *numbers)
    assert sum(len(tables_of(case.part(number))["levels/2/index"]) for number in numbers) == 64
    roots = [len(tables_of(case.part(number))["levels/2/index"]) for number in numbers]
    assert max(roots) - min(roots) == 1
    joined, again, shown = commands(["merge", folder], ["merge", folder], ["info", folder / "out.h5"])
    assert joined.returncode == 3
    assert "7 parts joined: 552 tiles" in joined.stderr
    assert "unreadable: level 2 col 2 row 2" in joined.stderr
    assert_same_tables(folder / "out.h5", case.whole)
    assert again.returncode == 3
    assert "is there already, the same" in again.stderr
    assert "joined_parts: 7" in shown.stdout
    with h5py.File(folder / "out.h5") as file:
        assert file["execution/ranks"]["rank"].tolist() == list(range(7))
        assert int(file["execution/ranks"]["tasks"].sum()) == int(file["execution/batches"]["tiles"].sum()) == 552
        assert file["slide"].attrs["name"] == "slide.tif"


def test_a_part_is_no_result_and_says_which_it_is(case: Case) -> None:
    exported, shown = commands(["export", case.part(3), "--csv", case.folder / "x.csv"], ["info", case.part(3)])
    assert exported.returncode == 65
    assert "is a part of a result; join all of them first: pyramidai merge" in exported.stderr
    assert "part       3 of 7" in shown.stdout


def test_a_part_that_was_killed_is_gone_on_with_and_done_parts_are_left_alone(case: Case, tmp_path: Path) -> None:
    folder = case.copied(tmp_path, 1, 3, 4, 5, 6, 7)
    words = case.run(folder / "out.h5", "--features", "--batch-size", "4", "--part", f"2/{OF}")
    journal = folder / "out.part-2-of-7.h5.journal"
    with started(None, [SLOWLY, "0.02", *words]) as job:
        assert job.wait_until(lambda: sum(path.stat().st_size for path in journal.glob("*.tiles")) > 1000)
        kill(job.launcher.pid, signal.SIGKILL)
        assert job.wait() != 0
    before, redone, _, finished, refused, joined = commands(
        ["merge", folder],
        [*words, "--resume"],
        ["merge", folder, "--missing"],
        [*words, "--resume"],
        words,
        ["merge", folder],
    )
    assert before.returncode == 65
    assert f"part 2 of 7 of slide.tif is missing: do it with --part 2/{OF}" in before.stderr
    assert redone.returncode == 0
    assert "going on from the journal" in redone.stderr
    assert finished.returncode == 0
    assert "is there already, complete" in finished.stderr
    assert refused.returncode == 73
    assert joined.returncode == 3
    assert_same_tables(folder / "out.h5", case.whole)


def test_parts_by_two_ranks_are_those_of_one(case: Case, tmp_path: Path) -> None:
    done = pyramidai(*case.run(tmp_path / "out.h5", "--features", "--part", f"6/{OF}"), ranks=2)
    assert done.returncode == 3
    assert_same_tables(tmp_path / case.part(6).name, case.part(6), are_parts=True)


def test_reference_and_exhaustive_runs_are_dealt_too(case: Case, tmp_path: Path) -> None:
    words = []
    for mode in ("reference", "exhaustive"):
        words.append(case.run(tmp_path / f"{mode}-whole.h5", "--mode", mode))
        words += [case.run(tmp_path / f"{mode}.h5", "--mode", mode, "--part", f"{number}/2") for number in (1, 2)]
    *_, joined = commands(*words, ["merge", tmp_path])
    assert joined.returncode == 3
    for mode in ("reference", "exhaustive"):
        assert_same_tables(tmp_path / f"{mode}.h5", tmp_path / f"{mode}-whole.h5")


@pytest.mark.parametrize(("per", "code"), [("slide", 0), ("tile", 3)])
def test_the_stain_is_that_of_the_whole_slide_or_of_each_tile(tmp_path: Path, per: str, code: int) -> None:
    write_slide(SynthSpec(1200, 1200, seed=3), tmp_path / "slide.tif")
    changes = {"stain": {"method": "macenko", "per": per}}
    write_package(tmp_path / "model", side=64, thresholds=(0.5, 0.4, 0.0), yaml_changes=changes)
    words = ["run", tmp_path / "slide.tif", "--model", tmp_path / "model", "-o"]
    *_, joined = commands(
        [*words, tmp_path / "whole.h5"],
        *([*words, tmp_path / "out.h5", "--part", f"{number}/3"] for number in (1, 2, 3)),
        ["merge", tmp_path],
    )
    assert joined.returncode == code
    assert_same_tables(tmp_path / "out.h5", tmp_path / "whole.h5")
    with h5py.File(tmp_path / "out.h5") as file, h5py.File(tmp_path / "whole.h5") as whole:
        assert len(whole["levels/2/index"]) > 3
        stains = [
            {name: one["execution"].attrs.get(name) for name in ("stain_map", "stain_per")} for one in (file, whole)
        ]
        assert stains[0] == stains[1]
        assert (stains[0]["stain_map"] is None) == (per == "tile")


def test_missing_parts_are_named_and_listed(case: Case, tmp_path: Path) -> None:
    folder = case.copied(tmp_path, 1, 2, 4, 6, 7)
    joined, listed, of_slide, all_there = commands(
        ["merge", folder],
        ["merge", folder, "--missing", "-q"],
        ["merge", folder, "--slides", case.folder / "slide.tif", "--parts", "9", "--missing"],
        ["merge", case.folder / "parts", "--missing"],
    )
    assert joined.returncode == 65
    assert "parts 3 and 5 of 7 of slide.tif are missing: do them with --part 3/7 and so on" in joined.stderr
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, "3\n5\n", "")
    assert of_slide.stdout.split() == list("123456789")  # under the slide's own name there is none
    assert (all_there.returncode, all_there.stdout) == (0, "")
    assert sorted(path.name for path in folder.iterdir()) == [f"out.part-{n}-of-7.h5" for n in (1, 2, 4, 6, 7)]


def test_a_damaged_part_is_named_and_to_be_done_again(case: Case, tmp_path: Path) -> None:
    folder = case.copied(tmp_path, *range(1, OF + 1))
    damaged = folder / "out.part-4-of-7.h5"
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    joined, listed = commands(["merge", folder], ["merge", folder, "--missing"])
    assert joined.returncode == 65
    assert "out.part-4-of-7.h5: was damaged or changed" in joined.stderr
    assert listed.stdout == "4\n"
    assert "out.part-4-of-7.h5" in listed.stderr
    assert not (folder / "out.h5").exists()


def test_parts_of_other_runs_and_existing_files_are_refused(case: Case, tmp_path: Path) -> None:
    tissue_slide(tmp_path / "other.tif", reduced_level=True)
    shutil.copy(case.folder / "slide.tif", tmp_path)
    model = ("--model", case.folder / "model", "--features")
    one, two = case.part(1), [case.part(n) for n in range(3, OF + 1)]
    (tmp_path / "there.h5").write_bytes(b"something")
    ended = commands(
        ["run", tmp_path / "other.tif", *model, "-o", tmp_path / "a.h5", "--part", "2/7"],
        ["run", tmp_path / "slide.tif", *model, "-o", tmp_path / "b.h5", "--part", "2/7", "--threshold", "1=0.2"],
        ["run", tmp_path / "slide.tif", *model, "-o", tmp_path / "c.h5", "--part", "2/8"],
        *(["merge", one, tmp_path / f"{name}.part-2-of-{n}.h5", *two, "-o", tmp_path / "x.h5"]
          for name, n in (("a", 7), ("b", 7), ("c", 8))),
        ["merge", one, case.whole, "-o", tmp_path / "x.h5"],
        ["merge", case.whole],
        ["merge", case.folder / "parts", "-o", tmp_path / "there.h5"],
        ["merge", case.folder / "parts", "-o", one],
        ["merge", case.folder / "parts", "-o", tmp_path / "there.h5", "--overwrite"],
    )  # fmt: skip
    slide, threshold, number, whole, unnamed, there, is_input, overwritten = ended[3:]
    assert {one.returncode for one in (slide, threshold, number, whole)} == {65}
    assert "a.part-2-of-7.h5: is a part of another run than" in slide.stderr
    assert "other slide" in slide.stderr
    assert "b.part-2-of-7.h5" in threshold.stderr
    assert "thresholds ([0.36, 0.2, 9.9e-06], there [0.36, 6.5e-05, 9.9e-06])" in threshold.stderr
    assert "is part 2 of 8, and" in number.stderr
    assert "is no part of a result" in whole.stderr
    assert unnamed.returncode == 64
    assert there.returncode == 73
    assert is_input.returncode == 64
    assert overwritten.returncode == 3
    assert_same_tables(tmp_path / "there.h5", case.whole)
    assert not (tmp_path / "x.h5").exists()


@pytest.mark.parametrize(("tissue", "of"), [(True, 6), (False, 2)], ids=["more parts than roots", "no tissue"])
def test_empty_parts_are_parts(tmp_path: Path, tissue: bool, of: int) -> None:
    write_package(tmp_path / "model", side=128, thresholds=(0.5, 0.0, 0.0))  # 4 roots
    tissue_slide(tmp_path / "slide.tif", tissue=tissue)
    words = ["run", tmp_path / "slide.tif", "--model", tmp_path / "model", "-o"]
    *ended, joined = commands(
        [*words, tmp_path / "whole.h5"],
        *([*words, tmp_path / "out.h5", "--part", f"{number}/{of}"] for number in range(1, of + 1)),
        ["merge", tmp_path],
    )
    assert {one.returncode for one in ended} == {0}
    assert "no tissue" not in ended[of].stderr
    assert len(tables_of(tmp_path / f"out.part-{of}-of-{of}.h5")["levels/2/index"]) == 0
    assert joined.returncode == 0
    assert ("no tissue found" in joined.stderr) is not tissue
    assert_same_tables(tmp_path / "out.h5", tmp_path / "whole.h5")


def test_of_several_slides_every_nth_is_a_parts_and_what_is_left_is_listed(case: Case, tmp_path: Path) -> None:
    for name in "abcd":
        tissue_slide(tmp_path / f"{name}.tif")
    wipe_tile(tmp_path / "b.tif", 5)
    (tmp_path / "list.csv").write_text("wsi\na.tif\nb.tif\nc.tif\nd.tif\ngone.tif\n")
    results = tmp_path / "results"
    run = ["run", "--slides", tmp_path / "list.csv", "--model", case.folder / "model", "--results-dir", results]
    check = ["merge", results, "--slides", tmp_path / "list.csv", "--parts"]
    first, third, none, second, listed, joined, third_left = commands(
        [*run, "--part", "1/3"],
        [*run, "--part", "3/3"],
        [*run, "--part", "6/6"],
        [*run, "--part", "2/3"],
        [*check, "3", "--missing"],
        [*check, "3"],
        [*check, "6", "--missing", "-q"],
    )
    assert [one.returncode for one in (first, third, none, second)] == [0, 0, 0, 4]
    assert "part 6 of 6 has no slide" in none.stderr
    assert sorted(path.name for path in results.glob("*.h5")) == ["a.h5", "b.h5", "c.h5", "d.h5"]
    assert sorted(path.name for path in results.glob("summary*")) == [f"summary.part-{n}-of-3.csv" for n in (1, 2, 3)]
    assert "a.tif" in (results / "summary.part-1-of-3.csv").read_text()
    assert "b.tif" not in (results / "summary.part-1-of-3.csv").read_text()
    assert (listed.returncode, listed.stdout) == (0, "2\n")
    assert "part 2: gone.h5 has no result" in listed.stderr
    assert joined.returncode == 65
    assert "part 2 of 3 to be done again: 1 of 5 slides" in joined.stderr
    assert third_left.stdout == "5\n"
    (tmp_path / "list.csv").write_text("wsi\na.tif\nb.tif\nc.tif\nd.tif\n")
    (results / "c.h5").write_bytes(b"torn")
    (results / "a.h5").unlink()
    left, redone = commands([*check, "2", "--missing"], [*run, "--part", "1/2", "--resume"])
    assert left.stdout == "1\n"
    assert "c.h5: is no HDF5 file" in left.stderr
    assert redone.returncode == 4  # the torn file is not touched
    (results / "c.h5").unlink()
    redone, joined = commands([*run, "--part", "1/2", "--resume"], [*check, "2"])
    assert redone.returncode == joined.returncode == 0
    assert "all 4 slides have their results" in joined.stderr


def test_what_cannot_be_asked_for_is_said(case: Case, tmp_path: Path) -> None:
    run = case.run(tmp_path / "out.h5")
    ended = commands(
        [*run, "--part", "0/3"],
        [*run, "--part", "4/3"],
        [*run, "--part", "one"],
        [*run, "--part", "1/2", "--export", "csv"],
        ["merge", tmp_path],
        ["merge", tmp_path / "gone.h5"],
        ["merge", tmp_path, "--slides", case.folder / "slide.tif"],
        ["merge", tmp_path, "--slides", case.folder / "slide.tif", "--parts", "0"],
        ["merge", tmp_path, "--slides", case.folder / "slide.tif", "--parts", "3"],
    )
    assert [one.returncode for one in ended] == [64, 64, 64, 64, 65, 65, 64, 64, 65]
    assert "expected I/N with 1 <= I <= N" in ended[1].stderr
    assert "a part of a slide has none" in ended[3].stderr
    assert "holds no parts" in ended[4].stderr
    assert "none of its parts is there" in ended[8].stderr
    assert list(tmp_path.iterdir()) == []
