"""Seconds of runs from seconds of their parts, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from bench.paper.phase_times import PAPER_SECONDS, PhaseTimes, RunSeconds, Samples


def test_a_run_costs_its_slide_its_tiles_and_a_creation_for_every_tile_that_has_children() -> None:
    seconds = RunSeconds(0.5, 0.001, (2.0, 3.0, 5.0))
    tiles = np.array([[100, 20, 4], [7, 0, 0]])
    assert seconds.of(tiles) == pytest.approx([0.5 + 200 + 60 + 20 + 24 * 0.001, 14.5])


def test_the_papers_reference_slide_of_2_h_29_min_is_27091_tiles() -> None:
    assert PAPER_SECONDS.of(np.array([[27091, 0, 0]]))[0] == pytest.approx(2 * 3600 + 29 * 60, abs=0.5)


def test_means_are_of_the_clock_that_was_asked_for_and_survive_a_file(tmp_path) -> None:
    def samples(wall: float, cpu: float) -> Samples:
        return Samples(np.array([wall, 3 * wall]), np.array([cpu, 3 * cpu]))

    times = PhaseTimes(samples(4, 1), samples(6, 2), (samples(8, 3), samples(10, 4).over(4), samples(12, 5)))
    times.save(tmp_path / "times.npz")
    found = PhaseTimes.load(tmp_path / "times.npz")
    assert found.costs(cpu=False) == RunSeconds(8, 12, (16, 5, 24))
    assert found.costs(cpu=True) == RunSeconds(2, 4, (6, 2, 10))
