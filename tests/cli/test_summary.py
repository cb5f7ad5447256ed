"""The last lines of a run count what is in the result."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.cli.summary import summary_lines
from pyramidai_mpi.run.assemble import failed_lines
from pyramidai_mpi.run.report import RunReport, SlideOutcome
from pyramidai_mpi.store.results.result import Execution
from pyramidai_mpi.store.results.summary import account_of
from tests.results import result_of

SETTINGS = RunSettings.of(Path("slides/a.tif"), Path("model"), Path("results/a.h5"))


def report_of(result, wall_s, balance=1.0):
    code = ExitCode.TILES_FAILED if result.tree.n_failed else ExitCode.OK
    return RunReport((SlideOutcome(SETTINGS, code, "a.tif"),), wall_s, balance, result)


@pytest.fixture(scope="module")
def report():
    """Of a result with unreadable tiles on every level."""
    return report_of(result_of(), 12.34, 1.125)


def test_every_level_is_counted_lowest_resolution_first(report):
    lines = list(summary_lines(SETTINGS, report))
    for line, n in zip(lines, (2, 1, 0), strict=False):
        decision = report.result.tree.levels[n].decision.tolist()
        assert line.startswith(f"level {n} ({0.2528 * 2**n:.3g} µm/px): {len(decision)} tiles, {decision.count(1)} ")
        assert ("positive" in line) == (n == 0)
        assert line.endswith(f"{decision.count(2)} unreadable")


def test_what_the_pyramid_saved_is_told_against_the_reference_run(report):
    text = "\n".join(summary_lines(SETTINGS, report))
    result = report.result
    analysed = sum(len(level) for level in result.tree.levels.values())
    assert f"{analysed} tiles analysed, {result.n_reference_tiles} in a run without pyramid" in text
    assert f"{result.n_reference_tiles / analysed:.2f} times fewer tiles" in text
    assert f"{result.n_reference_tiles - len(result.tree.levels[0])} level-0 tiles not read" in text


def test_time_balance_and_place_are_told(report):
    lines = list(summary_lines(SETTINGS, report))
    assert "12.3 s on 2 ranks, busiest/ideal 1.12" in lines
    assert lines[-1] == "result: results/a.h5"


def test_a_slide_without_tissue_is_said_to_have_none():
    report = report_of(result_of(np.zeros((35, 45), bool)), 0.1)
    lines = list(summary_lines(SETTINGS, report))
    assert account_of(report.result, 1.0).warning == "no tissue found, so nothing was looked at"
    assert lines[-1] == "result: results/a.h5"
    assert list(failed_lines(report.result)) == []
    assert report.exit_code == ExitCode.OK


def test_unreadable_tiles_are_listed_with_place_and_reason(report):
    lines = list(failed_lines(report.result))
    failed = report.result.failed
    assert len(failed) > 20
    assert len(lines) == 21
    assert f"{len(failed) - 20} more" in lines[-1]
    assert "/failed" in lines[-1]
    places = {
        f"level {f['level']} col {f['col']} row {f['row']} at level-0 pixel "
        f"({int(f['col']) * 64 * 2 ** int(f['level'])}, {int(f['row']) * 64 * 2 ** int(f['level'])})"
        for f in failed
    }
    for line in lines[:-1]:
        assert any(place in line for place in places)
        assert line.endswith("Größe nicht lesbar")
    assert report.exit_code == ExitCode.TILES_FAILED == 3


@pytest.mark.parametrize(
    ("more_than_finest", "said"),
    [
        (2, "tiles (2 level-0 tiles not read)"),
        (1, "tiles (1 level-0 tile not read)"),
        (0, "tiles (no level-0 tile saved)"),
        (-1, "tiles (1 level-0 tile more than that)"),
    ],
)
def test_what_the_pyramid_cost_is_never_called_a_saving(more_than_finest, said):
    tree = result_of().tree
    reference = len(tree.levels[0]) + more_than_finest
    lines = summary_lines(SETTINGS, report_of(result_of(n_reference_tiles=reference), 1.0))
    (line,) = [line for line in lines if "without pyramid" in line]
    assert f"{tree.n_tiles / reference:.2f} times as many {said}" in line
    assert "fewer" not in line


def test_one_of_anything_is_one():
    alone = result_of(np.pad(np.ones((8, 8), bool), ((0, 27), (0, 37))), execution=Execution({}, np.zeros(1)))
    lines = list(summary_lines(SETTINGS, report_of(alone, 1.0)))
    assert lines[0].startswith("level 2 (1.01 µm/px): 1 tile, ")
    assert lines[-2].startswith("1.0 s on 1 rank, ")
