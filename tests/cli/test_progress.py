"""A bar where there is a terminal, a line every few seconds where there is none, nothing else."""

from __future__ import annotations

import io
import logging

import pytest

from pyramidai_mpi.cli import progress as module
from pyramidai_mpi.sched import Progress


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


def test_lines_come_every_few_seconds_and_say_what_a_person_asks(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for second in range(21):
        clock.now = 100.0 + second
        view.show(Progress(done=10 * second, known=400, idle_ranks=1, ranks=4))
    view.close()
    assert len(caplog.messages) == 4
    # after 5 s: 50 tiles, 10 a second, 350 left
    assert caplog.messages[0] == "50 of 400 known tiles, 10 tiles/s, about 35 s left for these, 25 % of 4 ranks idle"


def test_lines_wait_for_the_first_tile(clock, caplog):
    caplog.set_level(logging.INFO)
    view = module.ProgressLines()
    for second in (0, 10, 20):
        clock.now = 100.0 + second
        view.show(Progress(done=0, known=4, idle_ranks=0, ranks=1))
    assert caplog.messages == []


def test_the_bar_shows_counts_and_idle_share_and_leaves_nothing(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(module.sys, "stderr", terminal)
    bar = module.ProgressBar(100)
    bar.show(Progress(done=30, known=100, idle_ranks=1, ranks=4))
    bar.show(Progress(done=50, known=200, idle_ranks=0, ranks=4))
    bar._bar.refresh()
    bar.close()
    text = terminal.getvalue()
    assert "/200" in text
    assert "50/200" in text
    assert "idle 0%" in text
    assert text.rsplit("\r", 1)[-1].strip() == ""


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
