"""Runs whose tiles are blocks of windows: stored ones, and planned from results without."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.types import Decision, Mode, WindowState
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.sched.policy import Policy
from pyramidai_mpi.simulate.cluster import simulate_run
from pyramidai_mpi.simulate.costs import Costs, Network
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.forest import join, plant
from pyramidai_mpi.simulate.stored import PlannedStride, costs_from, pool, read_run
from pyramidai_mpi.simulate.study import Balancing, Setting, load_of
from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.results import result_of
from tests.simulate.test_stored import stored
from tests.trees import TILE

if TYPE_CHECKING:
    from pathlib import Path

STRIDE, A_TILE = TILE // 4, 16
"""A quarter of a tile of the made results, and how many windows that makes of one."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    write_slide(SynthSpec(1000, 800, seed=2, tumor_share=0.2), path)
    return path


@pytest.fixture(scope="module", params=["window", "adaptive"])
def strided(request, slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real run at stride 56."""
    path = tmp_path_factory.mktemp("strided") / f"{request.param}.h5"
    options = ["--stride", "56", "--stride-mode", request.param, "--mode", "reference", "--no-progress"]
    assert run_command_line(["run", str(slide), "-o", str(path), *options]) == 0
    return path


def test_a_block_costs_what_its_windows_do(strided: Path) -> None:
    run = read_run(strided)
    with h5py.File(strided) as file:
        groups = [file["levels"][n] for n in sorted(file["levels"], key=int)]
        counts = [
            np.ones(len(group["index"]))
            if "state" not in group
            else (group["state"][...] == WindowState.LOOKED).sum(axis=(1, 2))
            for group in groups
        ]
        took = file["execution/ranks"]["level_s"].sum(axis=0)
    forest = run.work.forest
    assert forest.n_tiles == sum(map(len, counts))
    assert forest.n_windows == sum(int(count.sum()) for count in counts)
    for level, count in enumerate(counts):
        assert sorted(forest.windows[forest.level == level]) == sorted(count)
    # all of a level's seconds are shared out by windows
    seconds = costs_from([run]).of(forest)
    for level, count in enumerate(counts):
        if count.sum():
            assert seconds[forest.level == level].sum() == pytest.approx(took[level])


def test_the_reference_of_a_strided_run_is_all_windows(strided: Path, slide: Path, tmp_path: Path) -> None:
    run = read_run(strided)
    if "adaptive" not in strided.name:
        assert run.work.n_reference_tiles == run.work.forest.n_windows
    else:
        assert run.work.forest.n_windows < run.work.n_reference_tiles


def test_windows_go_with_their_tasks_through_pools_and_openings() -> None:
    one = plant([0, 1, 0], [1, -1, 1], windows=[3, 1, 5])
    assert one.windows.tolist() == [1, 3, 5]
    both = join([one, plant([0], [-1])])
    assert both.n_windows == 10
    opened = both.with_openings()
    assert opened.n_windows == 10
    seconds = Costs((2.0, 7.0), opening_s=0.5).of(opened)
    assert sorted(seconds) == [0.5, 0.5, 2.0, 6.0, 7.0, 10.0]


def test_the_longest_block_is_waited_for() -> None:
    """Nine blocks of a window and one of 100 on two ranks: it, not the number of blocks, says when all is done."""
    forest = plant([0] * 10, [-1] * 10, windows=[1] * 9 + [100])
    seconds = Costs((1.0,), batch_size=1).of(forest)
    owners = np.arange(10) % 2
    network = Network(latency_s=0, late_s=0)
    run = simulate_run(forest, seconds, owners, 2, Policy.STEAL_HALF, network, batch_size=1)
    assert run.worked_s == pytest.approx(101, abs=4.1)  # what was dealt before it, less what is stolen
    assert run.busy_s.sum() == 109


@pytest.mark.parametrize("mode", [Mode.PYRAMID, Mode.EXHAUSTIVE])
def test_below_a_pyramid_positive_tiles_become_blocks(tmp_path, mode) -> None:
    plain = read_run(stored(tmp_path / "p.h5"))
    run = read_run(stored(tmp_path / "r.h5", mode=mode), PlannedStride(STRIDE))
    level = result_of().tree.levels[0]
    positive = np.isin(level.decision, (Decision.ZOOM, Decision.UNREADABLE)).sum()
    forest = run.work.forest
    assert np.bincount(forest.level).tolist() == [positive, *np.bincount(plain.work.forest.level)]
    assert forest.windows[forest.level == 0].tolist() == [A_TILE] * positive
    assert (forest.windows[forest.level > 0] == 1).all()
    assert (forest.level[forest.parent[forest.level == 0]] == 1).all()
    assert run.work.n_reference_tiles == A_TILE * plain.work.n_reference_tiles
    # a window costs what a tile of level 0 does
    costs = costs_from([run])
    assert costs.level_s[0] == costs.level_s[1] > 0
    seconds = costs.of(forest)
    assert seconds[forest.level == 0].sum() == pytest.approx(positive * A_TILE * costs.level_s[0])


@pytest.mark.parametrize("mode", [Mode.PYRAMID, Mode.EXHAUSTIVE, Mode.REFERENCE])
def test_alone_every_tile_with_tissue_becomes_a_block(tmp_path, mode) -> None:
    n_tiles = result_of().n_reference_tiles
    run = read_run(stored(tmp_path / "r.h5", mode=mode), PlannedStride(STRIDE, Mode.REFERENCE))
    assert run.work.forest.n_tiles == run.work.forest.n_roots == n_tiles
    assert run.work.forest.n_windows == run.work.n_reference_tiles == n_tiles * A_TILE
    setting = Setting(Costs((0.5,)))
    found = load_of(run.work, 1, Balancing.STEAL_HALF, Dealing.ROUND_ROBIN, setting)
    expected = load_of(run.work, 1, Balancing.REFERENCE, None, setting)
    assert found.makespan_s == pytest.approx(expected.makespan_s, rel=1e-6)
    assert found.makespan_s == pytest.approx(0.5 * A_TILE * n_tiles, rel=1e-6)
    assert pool([run, run]).forest.n_windows == 2 * n_tiles * A_TILE


def test_a_reference_result_is_planned_as_one(tmp_path) -> None:
    run = read_run(stored(tmp_path / "r.h5", mode=Mode.REFERENCE), PlannedStride(STRIDE))
    assert run.work.forest.n_roots == run.work.forest.n_tiles == result_of().n_reference_tiles


def test_strides_are_not_planned_on_strides(strided: Path) -> None:
    with pytest.raises(UsageError, match="has windows at a stride already"):
        read_run(strided, PlannedStride(28))


def test_the_command_says_windows_and_core_hours(tmp_path, capfd) -> None:
    n_windows = A_TILE * result_of().n_reference_tiles
    made = stored(tmp_path / "e.h5", mode=Mode.EXHAUSTIVE)
    words = ["simulate", str(made), "--stride", str(STRIDE), "--mode", "reference", "--stride-mode", "shared"]
    words += ["--window-seconds", "3.6", "--opening-seconds", "0", "--plan", str(n_windows / 1000 / 3.5)]
    assert run_command_line(words) == 0
    out = capfd.readouterr().out
    assert f"{n_windows // A_TILE} tiles of {n_windows} windows" in out
    assert f"{n_windows / 1000:.4g} core-hours of work" in out
    answer = next(line for line in out.splitlines() if "ranks are done in" in line)
    assert 4 <= int(answer.split()[0]) <= 5
    # ranks that wait are paid for, too
    rows = out.partition("core-hours\n")[2].splitlines()
    assert rows
    assert all(float(line.split()[-1]) >= n_windows / 1000 - 0.01 for line in rows)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--stride", "0"], "--stride 0: expected 1 to"),
        (["--stride", "4", "--stride-mode", "adaptive"], "which windows it leaves out"),
        (["--stride", "4", "--stride-mode", "shared"], "--window-seconds"),
        (["--mode", "reference"], "give --stride too"),
        (["--window-seconds", "1"], "give --stride too"),
        (["--stride", "4", "--window-seconds", "-1"], "seconds a tile"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(tmp_path, capfd, words, part) -> None:
    assert run_command_line(["simulate", str(stored(tmp_path / "a.h5")), *words]) == 64
    err = capfd.readouterr().err
    assert err.count("\n") == 1
    assert part in err
