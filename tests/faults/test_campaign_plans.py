"""What ``bench/faults/campaign`` draws, judges, keeps and makes smaller, without starting anything."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.faults.campaign import faults, records, works
from bench.faults.campaign.__main__ import go_on
from bench.faults.campaign.checks import SeenStart, Wrong, wrongs_at_the_end, wrongs_of_start
from bench.faults.campaign.faults import Fault
from bench.faults.campaign.plans import Choice, Plan, drawn
from bench.faults.campaign.shrinking import shrunk
from bench.faults.campaign.trial import Outcome
from bench.faults.campaign.works import Undisturbed

if TYPE_CHECKING:
    from pathlib import Path

ALL = Choice(tuple(works.KINDS), hosts=True)
SLIDE, COHORT, TRAIN = works.KINDS["slide"], works.KINDS["cohort"], works.KINDS["train"]
ONE = Undisturbed(["s0.h5"], {"s0.h5": "right"}, {"s0.h5": 100}, 100)
TWO = Undisturbed(["s0.h5", "s1.h5"], {"s0.h5": "right", "s1.h5": "other"}, {"s0.h5": 100, "s1.h5": 50}, 150)
KILL = Fault("kill a rank", "running", victims=(1,))


def test_a_trial_follows_from_its_number_and_is_told_in_one_line() -> None:
    plans = [drawn(1, number, ALL) for number in range(300)]
    assert plans == [drawn(1, number, ALL) for number in range(300)]
    assert plans != [drawn(2, number, ALL) for number in range(300)]
    assert [Plan.from_json(plan.to_json()) for plan in plans] == plans


def test_what_is_drawn_has_the_wanted_shares() -> None:
    found = [(plan, fault) for number in range(2000) for plan in [drawn(1, number, ALL)] for fault in plan.faults]
    n = len(found)
    ends = {"finalising", "exporting", "removing"}
    assert sum(fault.phase in ends for _, fault in found) > n / 8
    assert sum(fault.phase == "resuming" for _, fault in found) > n / 8
    assert sum(plan.work == "cohort" for plan, _ in found) > n / 6
    assert sum(works.KINDS[plan.work].trains for plan, _ in found) > n / 10
    assert sum(plan.over_hosts for plan, _ in found) > n / 9
    assert {fault.kind for _, fault in found} == set(faults.KINDS)
    assert {plan.habit for plan, _ in found} == {"", *faults.HABITS, faults.SLOW_LINKS}
    here = [drawn(1, number, Choice(("train",), hosts=True)) for number in range(50)]
    assert {plan.work for plan in here} == {"train"}
    assert not any(plan.over_hosts for plan in here)


def seen(fault: Fault | None = KILL, **others: object) -> SeenStart:
    """A start that was killed and lost nothing."""
    usual: dict[str, object] = {"hit": "running", "codes": [9], "done": 40, "last": 16}
    usual |= {"known_before": 10, "known_after": 40}
    if fault is None:
        usual |= {"hit": "", "codes": [3], "known_after": 50, "found": {"s0.h5": "right"}}
    return SeenStart(fault, **(usual | others))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("start", "what"),
    [
        (seen(), []),
        (seen(known_after=33), ["lost"]),
        (seen(known_after=34), []),
        (seen(hit="finalising", known_after=49), ["lost"]),
        (seen(hit="finalising", known_after=50), []),
        (seen(known_after=51), ["double"]),
        (seen(stacks="Thread 1 ..."), ["hung"]),
        (seen(found={"s0.h5": "wrong"}, codes=[70]), ["changed"]),
        (seen(before=frozenset({"s0.h5"})), ["lost"]),
        (seen(codes=[3]), ["wrong code"]),
        (seen(codes=[3], found={"s0.h5": "right"}), []),
        (seen(codes=[0]), ["wrong code"]),
        (seen(codes=[65]), ["wrong code"]),
        (seen(None), []),
        (seen(None, codes=[75]), ["wrong code"]),
        (seen(None, found={}), ["wrong code"]),
        (seen(Fault("suspend a rank", "running"), codes=[70]), ["wrong code"]),
        (seen(Fault("SIGTERM to mpirun", "running"), codes=[75]), []),
        (seen(Fault("SIGTERM to mpirun", "running"), codes=[143]), ["wrong code"]),
        (seen(Fault("SIGTERM to mpirun", "running"), hit="starting", codes=[143]), []),
        (seen(Fault("disk full", "running"), has_failed=True, codes=[74]), []),
        (seen(Fault("disk full", "running"), has_failed=True, codes=[4]), ["wrong code"]),
        (seen(Fault("disk full", "running"), has_failed=False, codes=[74]), ["wrong code"]),
        (seen(Fault("several runs at once", "any"), codes=[3, 73], found={"s0.h5": "right"}), []),
        (seen(Fault("several runs at once", "any"), codes=[73, 73]), ["wrong code"]),
        (seen(Fault("several runs at once", "any"), codes=[3, 73]), ["wrong code"]),
        (seen(codes=[None], stacks="Thread 1 ..."), ["hung"]),
    ],
)
def test_what_is_wrong_with_a_start_is_found(start: SeenStart, what: list[str]) -> None:
    assert [wrong.what for wrong in wrongs_of_start(start, SLIDE, ONE)] == what


def test_of_several_slides_some_may_fail_and_a_training_that_is_there_is_not_begun_again() -> None:
    full = seen(Fault("disk full", "running"), has_failed=True, codes=[4])
    assert wrongs_of_start(full, COHORT, TWO) == []
    there = seen(None, codes=[73], before=frozenset({"s0.h5"}), known_before=None, done=0)
    assert wrongs_of_start(there, TRAIN, ONE) == []
    assert [wrong.what for wrong in wrongs_of_start(replace(there, before=frozenset()), TRAIN, ONE)] == ["wrong code"]


@pytest.mark.parametrize(
    ("done", "found", "names", "what"),
    [
        (60, {"s0.h5": "right"}, ["s0.h5"], []),
        (76, {"s0.h5": "right"}, ["s0.h5"], []),  # a batch of 8 of each of two ranks
        (77, {"s0.h5": "right"}, ["s0.h5"], ["double"]),
        (59, {"s0.h5": "right"}, ["s0.h5"], ["lost"]),
        (60, {}, ["s0.h5"], ["lost"]),
        (60, {"s0.h5": "right"}, ["s0.h5", "s0.h5.part"], ["litter"]),
        (60, {"s0.h5": "right"}, [], ["lost"]),
    ],
)
def test_what_is_wrong_in_the_end_is_found(done: int, found: dict[str, str], names: list[str], what: list[str]) -> None:
    """40 of the 100 pieces are done by a start that is killed."""
    starts = [seen(), seen(None, done=done, found=found)]
    assert [wrong.what for wrong in wrongs_at_the_end(starts, ONE, names, 2)] == what


def options_of(folder: Path, **others: object) -> argparse.Namespace:
    return argparse.Namespace(**{"folder": folder, "seed": 1, "hours": None, "trials": 3, **others})


def test_a_campaign_goes_on_with_the_next_trial_also_after_a_torn_line(tmp_path: Path) -> None:
    tried: list[Plan] = []
    (tmp_path / "broken").mkdir()

    def well(plan: Plan) -> Outcome:
        tried.append(plan)
        return Outcome(starts=[seen(plan.faults[0]), seen(None)], seconds=36)

    assert go_on(options_of(tmp_path), ALL, well)
    path = tmp_path / records.NAME
    path.write_bytes(path.read_bytes()[:-20])  # killed while it wrote the third
    assert go_on(options_of(tmp_path, trials=2), ALL, well)
    assert tried == [drawn(1, number, ALL) for number in (0, 1, 2, 2, 3)]
    assert [line["trial"] for line in records.kept(tmp_path)] == [0, 1, 2, 3]
    assert go_on(options_of(tmp_path, hours=0.0, trials=None), ALL, well)
    assert len(tried) == 5

    def badly(plan: Plan) -> Outcome:
        return Outcome(wrongs=[Wrong("litter", "left: a")], starts=[seen(plan.faults[0]), seen(None)], seconds=36)

    assert not go_on(options_of(tmp_path, trials=1), ALL, badly)

    def broken(_: Plan) -> Outcome:
        raise KeyError("of the campaign itself")

    assert not go_on(options_of(tmp_path / "broken", trials=1), ALL, broken)
    assert "KeyError: 'of the campaign itself'" in records.kept(tmp_path / "broken")[0]["wrong"][0][1]
    lines = records.kept(tmp_path)
    n_habits = sum(bool(line["plan"]["habit"]) for line in lines)
    said = records.table(lines).splitlines()
    total = next(line for line in said if line.startswith("| all |")).split(" | ")
    assert total[-8:] == [str(5 + n_habits), "0", "0", "0", "0", "0", "1", "0 |"]
    assert "5 trials, 1 with something wrong; 0.05 hours" in said[-1]
    assert Counter(kind for _, _, kind in records.counted(lines)).total() == 5 + n_habits


def test_a_failing_plan_is_made_as_small_as_still_fails() -> None:
    plan = next(
        plan
        for number in range(5000)
        for plan in [drawn(1, number, Choice(("cohort",), hosts=False))]
        if plan.habit and plan.ranks == 3 and plan.slides == 3 and len(plan.faults) > 2
        and sum(fault.kind == "kill mpirun" for fault in plan.faults) == 1
    )  # fmt: skip
    asked = 0

    def fails(one: Plan) -> bool:
        nonlocal asked
        asked += 1
        return any(fault.kind == "kill mpirun" for fault in one.faults)

    least = shrunk(plan, fails, fewest_slides=2)
    assert [fault.kind for fault in least.faults] == ["kill mpirun"]
    assert (least.ranks, least.slides, least.habit) == (2, 2, "")
    assert asked < 60
    assert shrunk(plan, lambda _: False, fewest_slides=2) == plan
