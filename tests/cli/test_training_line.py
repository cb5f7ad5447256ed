"""The line about how far a training is."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.cli import training_line as module
from pyramidai_mpi.cli.training_line import TrainingLine
from pyramidai_mpi.training.exact.loop import TrainingProgress


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self) -> float:
            return self.now

    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def shown(line: TrainingLine, clock, at: float, epoch: int, step: int) -> None:
    clock.now = at
    line.show(TrainingProgress(epoch, step, 0.51234, 12.34, 1.05))


def test_it_says_loss_speed_balance_and_what_is_left(clock, capsys) -> None:
    with TrainingLine() as line:
        line.begin("level 0", epochs=4, steps=10)
        shown(line, clock, 110, 1, 5)
    # 15 of 40 steps in 10 s: 25 more take 16.7 s
    said = "level 0, epoch 2/4, step 5/10, loss 0.5123, 12 units/s, busiest/ideal 1.05, about 17 s left\n"
    assert capsys.readouterr().err == said


def test_what_was_done_before_a_resume_does_not_count_as_speed(clock, capsys) -> None:
    line = TrainingLine()
    line.begin("", epochs=4, steps=10, done=10)
    shown(line, clock, 110, 1, 5)
    assert "about 50 s left" in capsys.readouterr().err


def test_without_a_terminal_there_is_a_line_every_five_seconds(clock, capsys) -> None:
    line = TrainingLine()
    line.begin("", 1, 100)
    for step in range(40):
        shown(line, clock, 101 + step * 0.5, 0, step)
    assert capsys.readouterr().err.count("\n") == 4


def test_on_a_terminal_one_line_is_written_over_and_goes_at_the_end(clock, monkeypatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(module, "terminal_width", lambda: 40)
    monkeypatch.setattr(module.sys, "stderr", screen)
    with TrainingLine() as line:
        line.begin("level 0", 1, 100)
        shown(line, clock, 101, 0, 1)
        shown(line, clock, 102, 0, 2)
    parts = screen.getvalue().split("\r\x1b[2K")
    assert len(parts) == 4
    assert parts[1].startswith("level 0, epoch 1/1, step 1/100")
    assert max(map(len, parts)) < 40
    assert "\n" not in screen.getvalue()
    assert parts[-1] == ""


def test_quiet_it_says_only_what_it_is_told_to(clock, capsys) -> None:
    line = TrainingLine(quiet=True)
    line.begin("", 1, 10)
    shown(line, clock, 200, 0, 5)
    line.phase("tiles")
    line.say("done")
    assert capsys.readouterr() == ("done\n", "")
