"""A bar where there is a terminal, a line every few seconds where there is none, nothing else."""

from __future__ import annotations

import io
import logging
from dataclasses import replace

import pytest

from pyramidai_mpi.cli import progress as module
from pyramidai_mpi.pyramid.forecast import Forecast
from pyramidai_mpi.run.progress import RunProgress


@pytest.fixture
def clock(monkeypatch):
    """The time that lines see; set ``clock.now``."""

    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


@pytest.fixture
def timers(monkeypatch):
    """Timers that were started and not cancelled; ``ring`` one to let its time pass."""

    class Timer:
        running: list[Timer] = []  # noqa: RUF012

        def __init__(self, seconds, action, arguments):
            self.seconds, self.ring = seconds, lambda: action(*arguments)

        def start(self):
            self.running.append(self)

        def cancel(self):
            if self in self.running:
                self.running.remove(self)

    monkeypatch.setattr(module.threading, "Timer", Timer)
    return Timer.running


def new_terminal(monkeypatch):
    """What standard error shows from now on; a fixture would be undone by pytest's own."""
    shown = io.StringIO()
    monkeypatch.setattr(module.sys, "stderr", shown)
    return shown


def at_work(done, total, share, *, left_s=90.0, is_exact=False, idle=1, spent_s=5.0):
    return RunProgress("", Forecast(done, total, is_exact, share, 1.0), spent_s, 10.0, left_s, idle, 4)


def test_lines_come_every_few_seconds_and_say_what_a_person_asks(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for second in range(21):
        clock.now = 100.0 + second
        view.show(at_work(10 * second, 400, second / 40, left_s=95 - second))
    view.close()
    assert len(caplog.messages) == 4
    assert caplog.messages[0] == "12 %, 50 of about 400 tiles, 10 tiles/s, about 90 s left, 25 % of 4 ranks idle"


def test_blocks_are_called_blocks(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for clock.now in (100.0, 110.0):
        view.show(replace(at_work(1, 12, 0.125, is_exact=True), unit="block"))
    assert caplog.messages == ["12 %, 1 of 12 blocks, 10 blocks/s, about 90 s left, 25 % of 4 ranks idle"]


def test_what_is_counted_is_not_called_an_estimate(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for clock.now in (100.0, 110.0):
        view.show(at_work(50, 400, 0.125, is_exact=True))
    assert caplog.messages == ["12 %, 50 of 400 tiles, 10 tiles/s, about 90 s left, 25 % of 4 ranks idle"]


def test_before_anything_tells_how_much_there_is_lines_say_what_is_done(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for clock.now in (100.0, 110.0):
        view.show(RunProgress("", Forecast(16), 5.0, 3.2, None, 0, 1))
    assert caplog.messages == ["16 tiles, 3.2 tiles/s, 0 % of 1 rank idle"]


def test_lines_wait_for_the_first_tile(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for clock.now in (100.0, 110.0, 120.0):
        view.show(RunProgress("", Forecast(0, 40), 0.0, 0.0, None, 0, 1))
    assert caplog.messages == []


@pytest.mark.parametrize(
    "progress",
    [
        RunProgress("", Forecast(50, 400, is_exact=False, share=0.12), 0.0, 10.0, 90.0, 1, 4),
        RunProgress("", Forecast(1, 1, is_exact=True, share=1.0), 0.0, 3.2, 0.0, 0, 1),
        RunProgress("", Forecast(50, 400, is_exact=True, share=0.5), 0.0, 0.5, 7200.0, 96, 96),
        RunProgress("", Forecast(50, 400, is_exact=True, share=0.5), 0.0, 12.0, 120.0, 0, 3),
    ],
)
def test_a_line_can_be_read_back(clock, caplog, progress):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for clock.now in (100.0, 110.0):
        view.show(progress)
    assert module.progress_of(f"12:00:00 rank 0: {caplog.messages[0]}\n") == progress


def test_another_line_is_none():
    assert module.progress_of("12:00:00 level 0 (0.25 µm/px): 711 tiles, 517 positive") is None


def test_a_phase_gets_a_line_when_it_takes_more_than_a_moment(timers, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    view.show(RunProgress("reading the model"))
    view.show(RunProgress("finding tissue"))  # the one before took no time
    view.show(RunProgress("finding tissue"))
    assert [timer.seconds for timer in timers] == [module._SECONDS_OF_A_SHORT_PHASE]
    assert caplog.messages == []
    timers[0].ring()
    assert caplog.messages == ["finding tissue ..."]


@pytest.mark.parametrize("end", [lambda view: view.close(), lambda view: view.show(at_work(1, 2, 0.5))])
def test_a_phase_that_is_over_gets_none(timers, end):
    view = module.ProgressLines()
    view.show(RunProgress("finding tissue"))
    end(view)
    assert timers == []


def test_the_bar_shows_what_a_person_asks_and_leaves_nothing(monkeypatch):
    terminal = new_terminal(monkeypatch)
    bar = module.ProgressBar(120)
    bar.show(RunProgress("finding tissue"))
    assert "finding tissue ..." in terminal.getvalue()
    bar.show(at_work(30, 100, 0.25, left_s=7300))
    text = terminal.getvalue()
    assert " 25%|" in text
    assert "30 of about 100 tiles, 10 tiles/s, about 2.0 h left, idle 25%" in text
    bar.show(at_work(100, 100, 1.0, left_s=0.0, is_exact=True, idle=4))
    assert "100%|" in terminal.getvalue()
    assert "100 of 100 tiles, 10 tiles/s, about 0 s left, idle 100%" in terminal.getvalue()
    bar.close()
    assert terminal.getvalue().rsplit("\r", 1)[-1].strip() == ""


def test_the_bar_goes_back_when_there_is_more_than_was_thought(monkeypatch):
    terminal = new_terminal(monkeypatch)
    bar = module.ProgressBar(120)
    bar.show(at_work(30, 60, 0.5))
    bar.show(at_work(31, 120, 0.26))
    last = terminal.getvalue().rstrip().rsplit("\r", 1)[-1]
    assert last.startswith(" 26%|")
    bar.close()


def test_a_line_said_beside_the_bar_is_a_line_of_its_own(monkeypatch, caplog):
    terminal = new_terminal(monkeypatch)
    caplog.set_level(logging.INFO)
    bar = module.ProgressBar(80)
    bar.say("before it")
    bar.show(at_work(30, 60, 0.5))
    bar.say("[1/3] x.tif", logging.WARNING)
    assert caplog.messages == ["before it", "[1/3] x.tif"]
    assert caplog.records[-1].levelno == logging.WARNING
    cleared, drawn_again = terminal.getvalue().rstrip().rsplit("\r", 2)[-2:]
    assert cleared.strip() == ""
    assert drawn_again.startswith(" 50%|")
    bar.close()


def test_a_bar_that_showed_nothing_can_be_closed():
    module.ProgressBar(80).close()


@pytest.mark.parametrize(
    ("wanted", "columns", "kind"),
    [(True, 80, module.ProgressBar), (True, None, module.ProgressLines), (False, 80, module.ProgressLines)],
    ids=["terminal", "no terminal", "not wanted"],
)
def test_a_bar_is_for_terminals(monkeypatch, wanted, columns, kind):
    monkeypatch.setattr(module, "terminal_width", lambda: columns)
    assert isinstance(module.choose_view(bar_wanted=wanted), kind)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99.4, "99 s"), (100, "2 min"), (5990, "100 min"), (6000, "1.7 h"), (360000, "100.0 h")],
)
def test_times_are_as_exact_as_they_are_good_for(seconds, words):
    assert module.time_in_words(seconds) == words


def test_advice_is_given_once_and_where_it_is_worth_it(clock, caplog):
    caplog.set_level(logging.INFO)
    asked = []
    view = module.WithAdvice(module.ProgressLines(), lambda: asked.append(1) or "--ranks 8 would do")
    view.show(RunProgress("finding tissue"))
    view.show(at_work(30, 60, 0.5, left_s=None))
    view.show(at_work(30, 60, 0.5, left_s=29.0))
    view.show(at_work(30, 60, 0.5, left_s=500.0, spent_s=4.9))  # the first estimates may be far off
    assert not asked
    for _ in range(3):
        view.show(at_work(30, 60, 0.5, left_s=31.0))
    assert caplog.messages == ["--ranks 8 would do"]
    assert len(asked) == 1
    view.close()


def test_without_advice_nothing_is_said(caplog):
    caplog.set_level(logging.INFO)
    view = module.WithAdvice(module.ProgressLines(), str)
    view.show(at_work(30, 60, 0.5, left_s=31.0))
    assert caplog.messages == []
