from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.simulate.stored import costs_from, pool, read_run
from pyramidai_mpi.store.results.result import Execution
from tests.results import result_of, write_file


def stored(path, *, mode=Mode.PYRAMID, level_s=(3.0, 2.0, 1.0), **attributes):
    """A result file whose two ranks worked so many seconds on each level, the second one thrice as long."""
    ranks = np.zeros(2, [("rank", "<i4"), ("busy_s", "<f8"), ("level_s", "<f8", (len(level_s),))])
    ranks["level_s"] = np.outer([0.25, 0.75], level_s)
    facts = {"mode": str(mode), "min_tissue": 0.0} | attributes
    return write_file(path, replace(result_of(mode=mode), execution=Execution(facts, ranks)))


def test_the_tree_of_a_result_is_read_as_it_is(tmp_path):
    result = result_of()
    run = read_run(stored(tmp_path / "a.h5"))
    levels = result.tree.levels
    assert np.bincount(run.work.forest.level).tolist() == [len(levels[n]) for n in range(3)]
    assert run.work.forest.n_roots == len(levels[2])
    children = [int((levels[1].parent == row).sum()) for row in range(len(levels[2]))]
    assert run.work.forest.n_children[: len(levels[2])].tolist() == children
    assert run.work.n_reference_tiles == result.n_reference_tiles


def test_it_knows_how_many_tiles_a_network_was_run_with(tmp_path):
    assert read_run(stored(tmp_path / "a.h5", batch_shapes="4 16 4")).batch_shape == 16
    assert read_run(stored(tmp_path / "b.h5")).batch_shape is None


def test_of_an_exhaustive_run_the_part_is_taken_that_its_decisions_lead_to(tmp_path):
    pyramid = read_run(stored(tmp_path / "p.h5"))
    run = read_run(stored(tmp_path / "e.h5", mode=Mode.EXHAUSTIVE))
    assert len(result_of(mode=Mode.EXHAUSTIVE).tree.levels[0]) > (pyramid.work.forest.level == 0).sum()
    assert run.work.forest.parent.tolist() == pyramid.work.forest.parent.tolist()
    assert run.work.n_reference_tiles == pyramid.work.n_reference_tiles


def test_a_reference_run_is_a_row_of_roots(tmp_path):
    run = read_run(stored(tmp_path / "r.h5", mode=Mode.REFERENCE))
    assert run.work.forest.n_roots == len(run.work.forest) == run.work.n_reference_tiles


def test_costs_come_from_the_runs_where_none_are_given(tmp_path):
    tiles = [len(result_of().tree.levels[n]) for n in range(3)]
    runs = [
        read_run(stored(tmp_path / "a.h5", batch_size=32, tissue_s=2.0, load_s=1.0)),
        read_run(stored(tmp_path / "b.h5", level_s=(30.0, 20.0, 5.0), batch_size=32, tissue_s=4.0)),
    ]
    costs = costs_from(runs)
    assert costs.level_s == pytest.approx((33 / (2 * tiles[0]), 22 / (2 * tiles[1]), 6 / (2 * tiles[2])))
    assert (costs.batch_size, costs.opening_s, costs.batch_s) == (32, 3.0, 0.0)
    assert runs[0].timings.loading_s == 1.0
    given = costs_from(runs, level_s=(0.3, 0.2), batch_size=8, batch_s=0.1, opening_s=0.5)
    assert (given.level_s, given.batch_size, given.batch_s, given.opening_s) == ((0.3, 0.2), 8, 0.1, 0.5)


def test_a_level_without_tiles_costs_the_mean_of_all(tmp_path):
    run = read_run(stored(tmp_path / "r.h5", mode=Mode.REFERENCE, level_s=(3.0, 0.0, 0.0)))
    a_tile = 3.0 / len(run.work.forest)
    assert costs_from([run]).level_s == pytest.approx((a_tile, a_tile, a_tile))


def test_a_file_that_tells_no_working_times_asks_for_seconds(tmp_path):
    runs = [read_run(stored(tmp_path / "a.h5", level_s=(0.0, 0.0, 0.0)))]
    with pytest.raises(UsageError, match="--seconds"):
        costs_from(runs)
    assert costs_from(runs, level_s=(0.3,)).batch_size == 16


def test_several_runs_are_one_pool(tmp_path):
    run = read_run(stored(tmp_path / "a.h5"))
    assert pool([run]) is run.work
    both = pool([run, run])
    assert both.forest.n_tiles == 2 * run.work.forest.n_tiles
    assert both.n_reference_tiles == 2 * run.work.n_reference_tiles


def test_what_is_no_result_is_bad_input(tmp_path):
    (tmp_path / "a.h5").write_bytes(b"nothing")
    with pytest.raises(InputError):
        read_run(tmp_path / "a.h5")
