"""The short version of `bench.faults.campaign`: each kind of work and of fault once; what its checker finds."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from bench.faults.campaign import faults, trial, works
from bench.faults.campaign.faults import LAUNCHER, Fault
from bench.faults.campaign.hosts import HostsOnDemand
from bench.faults.campaign.plans import Plan
from bench.faults.campaign.trial import Outcome, Trial, compiled_surroundings
from pyramidai_mpi.testing.launch import kill

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HAS_TORCH = importlib.util.find_spec("torch") is not None

PLANS = (
    Plan(
        "slide",
        1,
        2,
        over_hosts=False,
        habit="all habits of NFS",
        faults=(
            Fault("disk full", "running", victims=(1,), call=1),
            Fault("SIGTERM to mpirun", "running", delay_s=0.1, victims=(LAUNCHER,)),
            Fault("folder renamed away", "running", delay_s=0.1),
            Fault("kill a rank", "removing", delay_s=0.03, victims=(0,)),
        ),
    ),
    Plan(
        "cohort",
        2,
        2,
        over_hosts=False,
        habit="clock jumps",
        faults=(
            Fault("kill several ranks", "running", delay_s=0.1, victims=(0, 1)),
            Fault("SIGINT to mpirun", "resuming", victims=(LAUNCHER,)),
            Fault("several runs at once", "any", runs=2),
        ),
    ),
    Plan(
        "patches",
        1,
        2,
        over_hosts=False,
        habit="times of two seconds",
        faults=(
            Fault("SIGTERM to a rank", "running", delay_s=0.1, victims=(1,)),
            Fault("disk read-only", "finalising", victims=(0,), call=2),
            Fault("kill mpirun", "finalising", delay_s=0.1, victims=(LAUNCHER,)),
        ),
    ),
    Plan(
        "dense map",
        1,
        2,
        over_hosts=False,
        habit="no hard links",
        faults=(
            Fault("suspend a rank, then kill it", "running", delay_s=0.1, victims=(0,), seconds=0.2),
            Fault("stale file handle", "any", call=12),
            Fault("disk error", "resuming", victims=(0,), call=3),
        ),
    ),
    Plan(
        "explain",
        1,
        2,
        over_hosts=False,
        habit="",
        faults=(
            Fault("kill a rank", "running", delay_s=0.1, victims=(1,)),
            Fault("suspend a rank", "resuming", victims=(1,), seconds=0.3),
        ),
    ),
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the inputs of all works are made."""
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("no C compiler to make failing disks with")
    return tmp_path_factory.mktemp("inputs")


def carried_out(plan: Plan, inputs: Path, **others: object) -> Outcome:
    outcome = Trial(plan, inputs, HostsOnDemand(), **others).carry_out()  # type: ignore[arg-type]
    for seen in outcome.starts:
        print(seen)
    print(*outcome.said, sep="\n")
    return outcome


def test_the_plans_have_all_kinds_of_faults_and_of_work() -> None:
    here = {kind.name for kind in faults.KINDS.values() if not kind.is_of_hosts}
    assert {fault.kind for plan in PLANS for fault in plan.faults} == here
    assert {plan.work for plan in PLANS} == {name for name, kind in works.KINDS.items() if not kind.trains}


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: plan.work)
def test_nothing_is_lost_changed_or_left_whatever_goes_wrong(plan: Plan, inputs: Path) -> None:
    outcome = carried_out(plan, inputs)
    assert outcome.wrongs == []
    hit = [seen for seen in outcome.starts if seen.hit]
    assert len(hit) >= min(2, len(plan.faults))  # which come in time is the machine's matter, too


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.skipif(not HAS_TORCH, reason="needs torch")
def test_a_training_comes_to_the_same_weights_whatever_goes_wrong(inputs: Path) -> None:
    made = (Fault("kill a rank", "running", delay_s=0.1, victims=(1,)),)
    outcome = carried_out(Plan("train-slides", 8, 2, over_hosts=False, habit="", faults=made), inputs)
    assert outcome.wrongs == []
    assert outcome.starts[0].hit


KILLED_AT_THE_END = Plan(
    "slide",
    1,
    2,
    over_hosts=False,
    habit="",
    faults=(Fault("kill mpirun", "finalising", victims=(LAUNCHER,)),),
)


def tampering(inputs: Path) -> Callable[[Path, int], None]:
    """Take a frame off a journal after the first start; after the last give a result another's place, and a file."""

    def tamper(results: Path, number: int) -> None:
        if number == 1:
            journal = next(path for path in sorted(results.glob("*.journal/*.tiles")))
            journal.write_bytes(journal.read_bytes()[:-1])
        else:
            shutil.copy(inputs / "dense-map-1" / "undisturbed" / "s0.h5", results / "s0.h5")
            (results / "s0.h5.left").touch()

    return tamper


@pytest.mark.mpi
def test_a_lost_frame_another_result_and_a_file_too_many_are_found(inputs: Path) -> None:
    works.prepared(inputs, "dense map", 1)
    outcome = carried_out(KILLED_AT_THE_END, inputs, tamper=tampering(inputs))
    assert outcome.starts[0].hit == "finalising"
    assert Counter(wrong.what for wrong in outcome.wrongs) == {"lost": 1, "changed": 1, "litter": 1}


@pytest.mark.mpi
def test_a_rank_that_stands_still_for_ever_is_found_with_its_stack(
    inputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kill_but_do_not_wake(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
        if number != signal.SIGCONT:
            kill(pid, number)

    monkeypatch.setattr(trial, "kill", kill_but_do_not_wake)
    made = (Fault("suspend a rank", "running", victims=(0,), seconds=0.1),)
    plan = Plan("slide", 1, 2, over_hosts=False, habit="", faults=made)
    outcome = carried_out(plan, inputs, patience_s=3)
    assert [wrong.what for wrong in outcome.wrongs] == ["hung"]
    assert 'File "' in outcome.wrongs[0].text


HABITS = """
import os, sys, time
folder = os.environ["PYRAMIDAI_BELOW"]
a, b = (os.path.join(folder, name) for name in "ab")
file = open(a, "w")
def tried(action, *given):
    try:
        action(*given)
    except OSError as error:
        return type(error).__name__, error.errno
print(tried(os.link, a, b), tried(os.open, folder, os.O_TMPFILE | os.O_RDWR))
print(os.stat(a).st_mtime_ns % 2_000_000_000, os.stat(file.fileno()).st_mtime_ns % 2_000_000_000)
os.unlink(a)
print(os.path.exists(a), [name[:4] for name in os.listdir(folder)], tried(os.rmdir, folder) is not None)
file.close()
print(os.listdir(folder))
before = time.time()
moments = set()
for _ in range(3):
    moments.add(round((time.time() - before) / 600))
    time.sleep(0.25)
print(len(moments) > 1, time.monotonic() > 0)
"""


def test_the_surroundings_have_the_habits_that_they_are_told(inputs: Path, tmp_path: Path) -> None:
    environment = {"PYRAMIDAI_BELOW": str(tmp_path), "LD_PRELOAD": str(compiled_surroundings(inputs))}
    environment["PYRAMIDAI_HABITS"] = "nolink=1,times=2,silly,clock=7"
    done = subprocess.run(
        [sys.executable, "-c", HABITS], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == [
        "('PermissionError', 1) ('OSError', 95)",
        "0 0",
        "False ['.nfs'] True",
        "[]",
        "True True",
    ]


FAILING = """
import ctypes, os, sys
disk_arm = ctypes.CDLL(None).disk_arm
path = os.path.join(os.environ["PYRAMIDAI_BELOW"], "file")
def tried(action, *given):
    try:
        action(*given)
    except OSError as error:
        return error.errno
disk_arm(ctypes.c_long(1), ctypes.c_long(1), ctypes.c_int(5))
print([tried(os.mkdir, f"{path}-{n}") for n in range(4)])
disk_arm(ctypes.c_long(2), ctypes.c_long(-1), ctypes.c_int(30))
print([tried(os.mkdir, f"{path}-later-{n}") for n in range(4)], tried(os.rmdir, f"{path}-0"))
print([tried(os.stat, path) for n in range(4)][:3])
"""


def test_a_disk_fails_at_the_call_that_it_is_told(inputs: Path, tmp_path: Path) -> None:
    for name in ("disk", "told"):
        (tmp_path / name).mkdir()
    environment = {"PYRAMIDAI_BELOW": str(tmp_path / "disk"), "LD_PRELOAD": str(compiled_surroundings(inputs))}
    environment |= {"PYRAMIDAI_TOLD": str(tmp_path / "told"), "PYRAMIDAI_HABITS": "stale=1"}
    done = subprocess.run(
        [sys.executable, "-c", FAILING], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines() == ["[None, 5, None, None]", "[None, None, 30, 30] 30", "[2, 116, 2]"]
    assert [path.read_text() for path in (tmp_path / "told").iterdir()] == [
        "mkdir file-later-2\n"
    ]  # the first since it was armed last
