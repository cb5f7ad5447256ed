"""When a run is told to stop: by a signal, by SLURM's end of the job, by a limit."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.process import stop as stopping
from pyramidai_mpi.process.stop import SIGNALS, StopWish, parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def wish() -> Iterator[StopWish]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    wish = StopWish()
    wish.listen()
    yield wish
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5400", 5400),
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("90:00", 5400),
        ("1:30:00", 5400),
        ("1-12:00:00", 129600),
        ("1-12", 129600),
        ("2d", 172800),
    ],
)
def test_times_are_read_as_people_and_slurm_write_them(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "-5", "1:2:3:4", "30 m", "1h-3", "nan", "inf", "10", "65s", "0"])
def test_what_is_no_time_or_leaves_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--time-limit"):
        parse_duration(text)


def test_without_a_reason_nothing_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_END_TIME", raising=False)
    assert not StopWish.of_job().is_asked()
    assert not StopWish.of_job(3600).is_asked()


@pytest.mark.parametrize(("left_s", "stops"), [(3600, False), (90, False), (61, True), (-5, True)])
def test_it_stops_a_minute_before_the_end_that_slurm_tells(
    left_s: float, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + left_s)))
    wish = StopWish.of_job()
    assert wish.is_asked() is stops
    assert ("SLURM" in wish.reason) is stops


def test_the_earlier_of_two_ends_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(time.time() + 3600)))
    wish = StopWish.of_job(61)
    assert wish.is_asked()
    assert "time limit" in wish.reason


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_during_the_analysis_is_remembered(wish: StopWish, number: signal.Signals) -> None:
    with wish.letting_batches_finish():
        assert not wish.is_asked()
        os.kill(os.getpid(), number)
        assert wish.is_asked()
        assert number.name in wish.reason
        wish.leave()
        os.kill(os.getpid(), number)  # impatience changes nothing
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_at_any_other_time_it_interrupts(wish: StopWish, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)
        time.sleep(1)


def test_one_that_came_too_late_for_the_analysis_interrupts_what_follows(wish: StopWish) -> None:
    with pytest.raises(KeyboardInterrupt), wish.letting_batches_finish():
        os.kill(os.getpid(), signal.SIGTERM)


class Clocks:
    """In place of `time`: a clock on the wall, which may be set, and one that only goes on."""

    def __init__(self, wall: float) -> None:
        self.wall, self.going = wall, 50.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.going


@pytest.mark.parametrize("step_s", [-1e7, -600, 600, 1e7])
@pytest.mark.parametrize("limit_s", [None, 600], ids=["SLURM's end", "--time-limit"])
def test_a_clock_that_is_set_neither_ends_a_run_nor_prolongs_it(
    limit_s: float | None, step_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clocks = Clocks(1.7e9)
    monkeypatch.setattr(stopping, "time", clocks)
    monkeypatch.setenv("SLURM_JOB_END_TIME", str(int(clocks.wall + 600)) if limit_s is None else "")
    wish = StopWish.of_job(limit_s)
    clocks.wall += step_s
    clocks.going += 534
    assert not wish.is_asked()
    clocks.going += 2
    assert wish.is_asked()
