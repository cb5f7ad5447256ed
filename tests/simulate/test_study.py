from __future__ import annotations

import json

import pytest

from pyramidai_mpi.simulate.costs import Costs, Network
from pyramidai_mpi.simulate.dealing import Dealing
from pyramidai_mpi.simulate.forest import join, plant
from pyramidai_mpi.simulate.planning import plan_ranks
from pyramidai_mpi.simulate.plot import write_plots
from pyramidai_mpi.simulate.report import as_json, in_words, plan_lines, table_lines
from pyramidai_mpi.simulate.study import Balancing, Setting, Work, compare, row_of, ways
from tests.simulate.trees import lopsided, small

SETTING = Setting(Costs((10.0, 1.0), batch_size=2), Network(latency_s=0.0, bandwidth=1e30))
THREE = list(Dealing)[:3]


def flat(tiles: int) -> Work:
    return Work(plant([0] * tiles, [-1] * tiles))


def test_every_dealing_is_crossed_with_every_balancing_and_the_reference_run_is_there_once():
    crossed = ways(THREE, list(Balancing))
    assert len(crossed) == 5 * 3 + 1
    assert len(set(crossed)) == len(crossed)
    assert [way for way in crossed if way[1] is None] == [(Balancing.REFERENCE, None)]


def test_on_one_worker_every_way_takes_all_seconds():
    rows = compare([Work(small(), 16)], [1], SETTING, THREE, list(Balancing))
    for row in rows:
        expected = (16, 160) if row.balancing is Balancing.REFERENCE else (8, 44)
        assert (row.busiest_tiles, row.makespan_s) == (expected[0], pytest.approx(expected[1]))
        assert row.efficiency == pytest.approx(1)


def test_a_work_that_does_not_know_its_reference_run_has_no_row_of_it():
    rows = compare([Work(small(), 16), Work(small())], [2], SETTING, THREE, list(Balancing))
    assert len(rows) == 15


def test_the_order_of_the_papers_figure_6():
    """Block dealing is worst, round-robin steadier; stealing and synchronising come near the ideal."""
    work = Work(lopsided(1000))
    setting = Setting(Costs((0.33,)))
    for workers in (4, 12, 32):
        tiles = {
            (row.balancing, row.dealing): row.busiest_tiles
            for row in compare([work], [workers], setting, THREE, list(Balancing))
        }
        none = {dealing: tiles[Balancing.NONE, dealing] for dealing in THREE}
        ideal = tiles[Balancing.ORACLE, Dealing.BLOCK]
        assert ideal == -(-work.forest.n_tiles // workers)
        assert none[Dealing.BLOCK] > 1.5 * max(none[Dealing.ROUND_ROBIN], none[Dealing.RANDOM])
        for dealing in THREE:
            assert ideal <= tiles[Balancing.STEAL_HALF, dealing] <= 1.05 * ideal + 1
            assert ideal <= tiles[Balancing.EACH_LEVEL, dealing] <= ideal + 3
            assert tiles[Balancing.STEAL_HALF, dealing] <= tiles[Balancing.STEAL_ONE, dealing] <= none[dealing]


def test_slides_one_after_the_other_add_their_times_and_average_their_tiles():
    row = row_of([Work(small()), flat(4)], 2, Balancing.NONE, Dealing.ROUND_ROBIN, SETTING)
    assert (row.busiest_tiles, row.makespan_s) == ((6 + 2) / 2, 42 + 20)
    assert row.efficiency == pytest.approx((44 + 40) / (2 * 62))


def test_whole_slides_in_turn_are_opened_by_their_worker():
    setting = Setting(Costs((10.0, 1.0), opening_s=100.0))
    pool = Work(join([small(), plant([0], [-1])]))
    row = row_of([pool], 2, Balancing.NONE, Dealing.SLIDES, setting)
    assert (row.busiest_tiles, row.makespan_s) == (8, 144)
    assert row.efficiency == pytest.approx((144 + 110) / (2 * 144))
    assert row_of([pool], 1, Balancing.STEAL_HALF, Dealing.SLIDES, setting).makespan_s == pytest.approx(254)


# A hundred tiles of 10 s, nothing balanced: n ranks take 10 * ceil(100 / n) seconds.


@pytest.mark.parametrize(
    ("limit_s", "at_least", "ranks"),
    [(100, 10, 10), (99, 11, 12), (1000, 1, 1), (335, 3, 4), (10, 100, 100), (55.5, 19, 20)],
)
def test_a_plan_is_the_fewest_ranks_that_are_in_time(limit_s, at_least, ranks):
    plan = plan_ranks([flat(100)], limit_s, SETTING, Balancing.NONE)
    assert plan.at_least == at_least
    assert plan.answer is not None
    assert plan.answer.workers == ranks
    assert plan.answer == plan.tried[[row.workers for row in plan.tried].index(ranks)]


def test_a_plan_leaves_room_for_what_no_rank_shortens():
    plan = plan_ranks([flat(100)], 150, SETTING, Balancing.NONE, serial_s=50)
    assert plan.answer is not None
    assert plan.answer.workers == 10
    assert "10 ranks are done in 2.5 min (limit 2.5 min), efficiency 0.667" in next(plan_lines(plan))


@pytest.mark.parametrize(
    ("limit_s", "most", "at_least", "words"),
    [
        (9.9, 4096, None, "no number of ranks"),
        (100, 9, None, "no number"),
        (95, 11, 11, "none of the numbers"),
    ],
    ids=["shorter than a tile", "too few allowed", "possible, but not so"],
)
def test_a_plan_says_when_it_cannot_be(limit_s, most, at_least, words):
    plan = plan_ranks([flat(100)], limit_s, SETTING, Balancing.NONE, most=most)
    assert (plan.answer, plan.at_least) == (None, at_least)
    assert words in next(plan_lines(plan))


def test_a_stealing_plan_is_in_time_with_few_ranks_more_than_any_could_do_with():
    work = Work(lopsided(1000))
    plan = plan_ranks([work], 60.0, Setting(Costs((0.33,))))
    assert plan.answer is not None
    assert plan.at_least is not None
    assert plan.answer.makespan_s <= 60
    assert plan.at_least <= plan.answer.workers <= 1.1 * plan.at_least + 1


def test_a_table_has_a_part_for_each_dealing_and_a_line_for_each_number_of_workers():
    rows = compare([Work(small(), 16)], [1, 2], SETTING, THREE, list(Balancing))
    lines = list(table_lines(rows))
    assert [line for line in lines if line.startswith("roots dealt")] == [
        f"roots dealt {dealing}: tiles of the busiest worker, time" for dealing in THREE
    ]
    two = lines[3].split()
    assert two[:4] == ["2", "6", "42", "s"]
    assert two[-3:] == ["8", "80", "s"]


def test_times_are_said_as_people_do():
    assert [in_words(s) for s in (0.1234, 119, 120, 7200)] == ["0.123 s", "119 s", "2.0 min", "2.00 h"]


def test_json_holds_all_figures():
    rows = compare([Work(small())], [2], SETTING, THREE, [Balancing.NONE])
    plan = plan_ranks([flat(100)], 100, SETTING, Balancing.NONE)
    read = json.loads(as_json(rows, plan, SETTING))
    assert [(row["dealing"], row["makespan_s"]) for row in read["rows"]] == [
        (str(row.dealing), row.makespan_s) for row in rows
    ]
    assert read["rows"][0]["makespan_s"] == 42
    assert read["plan"]["answer"]["workers"] == 10
    assert read["setting"]["costs"]["level_s"] == [10.0, 1.0]
    assert json.loads(as_json([], None, SETTING))["plan"] is None


def test_curves_are_drawn_as_png_and_svg(tmp_path):
    rows = compare([Work(small(), 16)], [1, 2], SETTING, THREE, list(Balancing))
    png, svg = write_plots(rows, tmp_path / "fig.6", overwrite=False)
    assert png.name == "fig.6.png"
    assert png.read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in svg.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fig.6.png", "fig.6.svg"]
