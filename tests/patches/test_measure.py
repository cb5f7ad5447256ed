"""The size of groups that is recommended follows from the times, which clocks with a formula give here."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.measure import (
    Measured,
    Plan,
    Way,
    csv_text,
    measure,
    recommend,
    spreads,
    table_lines,
    usable_groups,
)
from pyramidai_mpi.patches.page_cache import forget, remember, share_in_memory

PATCH = 3 * 8 * 8
SIZES = (100, 200, 400, 800, 1600)


@dataclass
class Disk:
    """A clock that runs while patches are read, and what was read."""

    opening_s: float = 0.0
    group_s: float = 0.0
    patch_s: float = 0.0
    cold_s: float = 0.0
    now: float = 0.0
    is_cold: bool = False
    read: list[tuple] = field(default_factory=list)
    open_files: int = 0

    def spend(self, seconds: float) -> None:
        self.now += seconds + (self.cold_s if self.is_cold else 0)
        self.is_cold = False

    def make_cold(self, path: Path) -> None:
        self.is_cold = True


class FakePatches:
    def __init__(self, disk: Disk, path: Path, group: int) -> None:
        self.disk, self.path, self.group_size = disk, path, group
        disk.open_files += 1
        disk.spend(disk.opening_s)

    def __len__(self) -> int:
        return 5000

    def group(self, number: int, out: np.ndarray) -> np.ndarray:
        assert out.shape == (max(SIZES), 8, 8, 3)
        assert 0 <= number < 5000 // self.group_size
        self.disk.read.append(("group", self.path.name, self.group_size, number))
        # 1 ms to find it, then so much a patch
        self.disk.spend(self.disk.group_s + self.disk.patch_s * self.group_size)
        return out

    def patch(self, number: int) -> np.ndarray:
        self.disk.read.append(("patch", self.path.name, self.group_size, number))
        self.disk.spend(self.disk.group_s + self.disk.patch_s)
        return np.zeros((8, 8, 3), np.uint8)

    def close(self) -> None:
        self.disk.open_files -= 1


FILES = [Measured(Path("a.patches.h5"), 5000, 8)]


def readings_of(disk: Disk, *, cold: bool = False, files=FILES, plan: Plan | None = None):
    states = {"warm": lambda path: None} | ({"cold": disk.make_cold} if cold else {})
    found = list(
        measure(files, plan or Plan(SIZES), lambda *where: FakePatches(disk, *where), lambda: disk.now, states)
    )
    assert disk.open_files == 0
    return found


def test_times_are_those_of_the_clock_a_patch():
    readings = readings_of(Disk(opening_s=0.005, group_s=0.020, patch_s=0.001))
    found = spreads(readings)
    assert len(readings) == len(SIZES) * 3 * len(Way)
    for size in SIZES:
        expected = {
            Way.OPENING: 5.0,
            Way.GROUP: (20 + size) / size,
            Way.SINGLE: 21.0,
            Way.ANEW: 26.0,
        }
        for way, ms in expected.items():
            assert found["warm", size, way].median == pytest.approx(ms)
    assert {reading.n for reading in readings if reading.way is Way.ANEW} == {50}
    assert {reading.n for reading in readings if reading.way is Way.SINGLE} == {100, 200, 400}


@pytest.mark.parametrize(
    ("group_s", "expected"),
    [
        # (f + N) / N ms a patch, so with 1600 (1 + f / 1600): the least N with f / N <= 0.1 + 1.1 f / 1600
        (0.0, 100),
        (0.009, 100),
        (0.020, 200),
        (0.050, 400),
        (0.100, 800),
        (1.000, 1600),
    ],
)
def test_the_smallest_size_within_a_tenth_of_the_fastest_is_recommended(group_s, expected):
    fixed = 1000 * group_s
    assert next(size for size in SIZES if (fixed + size) / size <= 1.1 * (fixed + 1600) / 1600) == expected
    recommended = recommend(readings_of(Disk(opening_s=0.3, group_s=group_s, patch_s=0.001)), PATCH)
    assert recommended.group == expected
    assert recommended.group_bytes == expected * PATCH
    ms = (fixed + expected) / expected
    assert recommended.excess == pytest.approx(ms / ((fixed + 1600) / 1600) - 1)
    assert recommended.single == pytest.approx((fixed + 1) / ms)
    assert recommended.anew == pytest.approx((300 + fixed + 1) / ms)
    assert f"--group {expected}" in str(recommended)
    assert ("larger ones may" in str(recommended)) == (expected == 1600)


def test_it_holds_cold_and_warm():
    # warm, each size is as good; cold, 100 ms are shared by all patches of a group
    readings = readings_of(Disk(patch_s=0.001, cold_s=0.1), cold=True)
    assert recommend([reading for reading in readings if reading.state == "warm"], PATCH).group == 100
    assert recommend(readings, PATCH).group == 800
    assert "warm and cold" in str(recommend(readings, PATCH))
    found = spreads(readings)
    assert found["cold", 400, Way.GROUP].median == pytest.approx(500 / 400)
    assert found["cold", 400, Way.SINGLE].median == pytest.approx(500 / 400)


def test_where_no_size_is_good_in_all_states_the_nearest_is_named_as_that():
    readings = []
    for state, seconds in {"warm": (1, 1.3, 2), "cold": (2, 1.3, 1)}.items():
        readings += [
            one.__class__(state, one.way, one.group, one.repeat, 0, one.n, one.n * seconds[SIZES.index(one.group)])
            for one in readings_of(Disk(patch_s=1))
            if one.group <= 400
        ]
    recommended = recommend(readings, PATCH)
    assert (recommended.group, recommended.excess) == (200, pytest.approx(0.3))
    assert "no size is within 10%" in str(recommended)


def test_the_same_seed_reads_the_same_places_and_another_seed_others():
    def places(seed):
        disk = Disk()
        readings_of(disk, plan=Plan(SIZES, 2, seed))
        return disk.read

    assert places(1) == places(1) != places(2)
    groups = [one for one in places(1) if one[0] == "group"]
    assert len(groups) == 2 * len(SIZES)
    single = [one[3] for one in places(1) if one[:3] == ("patch", "a.patches.h5", 100)]
    # 100 one by one, none twice, and the first 50 of them again; the same in the second repeat, at other places
    assert len(single) == 300
    assert single[100:150] == single[:50]
    assert len(set(single[:100])) == 100
    assert set(single[:100]) != set(single[150:250])


def test_both_states_read_the_same_places():
    disk = Disk()
    readings_of(disk, cold=True)
    assert disk.read[: len(disk.read) // 2] == disk.read[len(disk.read) // 2 :]


def test_of_several_files_those_with_a_whole_group_are_read():
    files = [Measured(Path("small"), 150, 8), *(Measured(Path(name), 5000, 8) for name in "ab")]
    disk = Disk()
    readings = readings_of(disk, files=files, plan=Plan(SIZES, 20))
    assert {one.file for one in readings if one.group > 100} == {1, 2}
    assert {one.file for one in readings if one.group == 100} == {0, 1, 2}


def test_sizes_that_no_file_has_or_memory_lacks_are_left_out():
    files = [Measured(Path("a"), 450, 8), Measured(Path("b"), 90, 8)]
    assert usable_groups(files, SIZES, None) == (100, 200, 400)
    assert usable_groups(files, (400, 100, 400), None) == (100, 400)
    assert usable_groups(files, SIZES, 399 * PATCH) == (100, 200)
    with pytest.raises(InputError, match=r"there are 450 patches in a file, .* hold 50; give smaller --groups"):
        usable_groups(files, SIZES, 50 * PATCH)
    with pytest.raises(InputError, match="patches of 8 px and 9 px"):
        usable_groups([*files, Measured(Path("c"), 450, 9)], SIZES, None)


def test_the_tables_say_the_figures():
    readings = readings_of(Disk(opening_s=0.005, group_s=0.020, patch_s=0.001))
    lines = list(table_lines(readings, PATCH))
    assert len(lines) == 1 + len(SIZES)
    assert lines[3].split("  ")[0].strip() == "warm"
    assert "1.050 (1.050-1.050)" in lines[3]
    assert lines[3].split()[-2:] == ["20.0", "24.8"]
    rows = list(csv.DictReader(io.StringIO(csv_text(readings, [Measured(Path("=x.patches.h5"), 5000, 8)]))))
    assert len(rows) == len(readings)
    assert rows[0]["file"] == "'=x.patches.h5"
    assert sum(float(row["seconds"]) for row in rows) == pytest.approx(sum(one.seconds for one in readings))
    assert {row["way"] for row in rows} == set(Way)


def test_what_the_system_remembers_and_forgets_is_seen(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(8 << 20))
    remember(path)
    kept = share_in_memory(path)
    if kept is None:
        pytest.skip("this file system does not say what of a file is in memory")
    assert kept == 1
    forget(path)
    left = share_in_memory(path)
    if left == 1:
        pytest.skip("this file system keeps its files in memory")
    assert left < 0.2
    assert len(path.read_bytes()) == 8 << 20
    assert share_in_memory(path) == 1
    with pytest.raises(InputError, match="nowhere"):
        forget(tmp_path / "nowhere")
