"""Cores that a process may use: bound, without second threads, within quotas of either kind of cgroup."""

from __future__ import annotations

import os

import pytest

from pyramidai_mpi.process import cores


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine of 4 cores with 2 threads each, as Linux numbers them; call it to write a file below its folder."""
    monkeypatch.setattr(cores, "_CPUS", tmp_path / "cpu")
    monkeypatch.setattr(cores, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(cores, "_OWN_CGROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: set(range(8)))

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    for processor in range(8):
        write(f"cpu/cpu{processor}/topology/core_cpus_list", f"{processor % 4},{processor % 4 + 4}\n")
    return write


def test_second_threads_of_cores_do_not_count(machine):
    assert cores.usable_cores() == 4


def test_a_bound_process_has_the_cores_that_it_is_bound_to(machine, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 5, 2})
    assert cores.usable_cores() == 2


def test_where_the_system_tells_of_no_cores_each_processor_is_one(monkeypatch, tmp_path):
    monkeypatch.setattr(cores, "_CPUS", tmp_path)
    monkeypatch.setattr(cores, "_OWN_CGROUPS", tmp_path / "none")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {3, 4, 5})
    assert cores.usable_cores() == 3


@pytest.mark.parametrize(
    ("group", "quota", "expected"),
    [
        ("job/rank", "200000 100000", 2),
        ("job", "300000 100000", 3),  # of a group above it
        (".", "150000 100000", 1),  # of the root, as a container sees its own
        ("job/rank", "50000 100000", 1),  # half a core is one rank
        ("job/rank", "max 100000", 4),
        ("job/rank", "800000 100000", 4),
    ],
)
def test_a_quota_of_cgroups_2_counts(machine, group, quota, expected):
    machine("own", "0::/job/rank\n")
    machine(f"cgroup/{group}/cpu.max", quota + "\n")
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(("quota_us", "expected"), [("250000", 2), ("-1", 4)])
def test_a_quota_of_cgroups_1_counts(machine, quota_us, expected):
    machine("own", "5:memory:/docker/1f\n3:cpu,cpuacct:/docker/1f\n")
    machine("cgroup/cpu,cpuacct/cpu.cfs_quota_us", quota_us)  # a container's own group is the root there
    machine("cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000")
    assert cores.usable_cores() == expected


def test_here_it_is_what_the_system_grants():
    assert 1 <= cores.usable_cores() <= len(os.sched_getaffinity(0))
