"""Which tiles a run holds, that they are all accounted for, and their canonical order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from pyramidai_mpi.base.errors import ExitCode, InternalError
from pyramidai_mpi.base.types import TILE_DTYPE, Decision, Mode, tiles_at
from pyramidai_mpi.pyramid.resumption import find_frontier
from pyramidai_mpi.pyramid.rule import zooms_in
from pyramidai_mpi.pyramid.tree import build_tree
from tests.trees import part_of, played, rule_of, tissue_in

masks = drawn.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 40)), elements=st.sampled_from([False, True]))
sparse_masks = st.builds(
    lambda a, b, c: a & b & c, *[drawn.arrays(bool, (29, 37), elements=st.booleans(), fill=st.just(True))] * 3
)


def decided(level: int, col: int, row: int) -> Decision:
    """Any fixed pattern of decisions, some unreadable."""
    return [Decision.STOP, Decision.ZOOM, Decision.ZOOM, Decision.UNREADABLE][(level * 7 + col * 3 + row * 5) % 4]


def full_run(rule, mode=Mode.PYRAMID, decision_of=decided):
    return build_tree(played(rule, decision_of, mode), rule, mode)


def resumption_of(done, rule, mode):
    """What a run that zooms in by decision has left to do."""
    return find_frontier(done, rule.first_tiles(mode), lambda records: rule.children(records[zooms_in(records, mode)]))


def tuples(tiles):
    return [(int(t["level"]), int(t["col"]), int(t["row"])) for t in tiles]


@pytest.fixture
def patchy():
    """A rule over tissue with holes, of sides that no tile divides."""
    mask = np.random.default_rng(5).random((43, 53)) < 0.15
    mask[:20, 10:30] = False
    return rule_of(mask)


@settings(max_examples=40, deadline=None)
@given(masks, st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_roots_are_the_lowest_tiles_with_enough_tissue_in_row_major_order(mask, share):
    rule = rule_of(mask, min_root_share=share)
    expected = [
        (2, c, r)
        for r in range(-(-mask.shape[0] // 8))
        for c in range(-(-mask.shape[1] // 8))
        if (part := part_of(mask, 2, c, r)).any() and part.mean() >= share
    ]
    assert tuples(rule.roots()) == expected


@settings(max_examples=30, deadline=None)
@given(sparse_masks)
def test_children_exist_where_they_meet_the_slide_and_hold_tissue(mask):
    rule = rule_of(mask)
    for root in rule.roots():
        c, r = int(root["col"]), int(root["row"])
        expected = {
            (1, 2 * c + i, 2 * r + j) for i in (0, 1) for j in (0, 1) if tissue_in(mask, 1, 2 * c + i, 2 * r + j)
        }
        assert set(tuples(rule.children(np.array([root])))) == expected


def test_level_0_tiles_have_no_children_and_no_tiles_have_none(patchy):
    assert len(patchy.children(tiles_at(0, np.array([[3, 4], [20, 7]])))) == 0
    assert len(patchy.children(np.empty(0, TILE_DTYPE))) == 0


def test_children_of_a_mixed_batch_are_those_of_its_tiles(patchy):
    roots = patchy.roots()
    mixed = np.concatenate([roots[:2], patchy.children(roots[3:4]), tiles_at(0, np.array([[1, 1]]))])
    together = sorted(tuples(patchy.children(mixed)))
    assert together == sorted(t for one in mixed for t in tuples(patchy.children(np.array([one]))))


@settings(max_examples=30, deadline=None)
@given(sparse_masks, st.sampled_from(list(Mode)))
def test_a_complete_run_of_any_mode_adds_up(mask, mode):
    rule = rule_of(mask)
    predictions = played(rule, decided, mode)
    tree = build_tree(predictions, rule, mode)
    assert tree.n_tiles == len(predictions)
    assert tree.n_failed == int((predictions["decision"] == Decision.UNREADABLE).sum())
    found = {(n, *map(int, index)) for n, level in tree.levels.items() for index in level.index}
    assert found == set(tuples(predictions))


def test_rows_of_a_level_are_in_row_major_order(patchy):
    for level in full_run(patchy, Mode.EXHAUSTIVE).levels.values():
        order = [(int(row), int(col)) for col, row in level.index]
        assert order == sorted(order)
        assert len(order) > 1


def test_the_tree_does_not_depend_on_the_order_of_work(patchy):
    first, second = (build_tree(played(patchy, decided, seed=seed), patchy, Mode.PYRAMID) for seed in (1, 2))
    for n, level in first.levels.items():
        for name in ("index", "probability", "decision", "parent"):
            assert getattr(level, name).tobytes() == getattr(second.levels[n], name).tobytes()


def test_types_are_those_of_the_result_file(patchy):
    for level in full_run(patchy).levels.values():
        assert level.index.dtype == np.uint32
        assert level.probability.dtype == np.float32
        assert level.decision.dtype == np.uint8
        assert level.parent.dtype == np.int64


@pytest.mark.parametrize("mode", [Mode.PYRAMID, Mode.EXHAUSTIVE])
@pytest.mark.parametrize("f", [2, 3])
def test_a_parent_is_the_row_of_the_tile_that_covers_its_child(mode, f):
    rule = rule_of(np.random.default_rng(1).random((60, 70)) < 0.3, f=f)
    tree = full_run(rule, mode)
    assert (tree.levels[2].parent == -1).all()
    for n in (0, 1):
        level, above = tree.levels[n], tree.levels[n + 1]
        assert len(level)
        assert (above.index[level.parent] == level.index // f).all()


def test_probabilities_and_decisions_stay_with_their_tiles(patchy):
    predictions = played(patchy, decided)
    tree = build_tree(predictions, patchy, Mode.PYRAMID)
    for record in predictions:
        level = tree.levels[int(record["level"])]
        row = int(np.flatnonzero((level.index == (record["col"], record["row"])).all(axis=1))[0])
        assert level.decision[row] == record["decision"]
        assert level.probability[row].tobytes() == record["probability"].tobytes()


def test_a_reference_run_is_level_0_alone_without_parents(patchy):
    tree = full_run(patchy, Mode.REFERENCE)
    assert len(tree.levels[0]) == len(patchy.reference_tiles()) > 0
    assert [len(tree.levels[n]) for n in (1, 2)] == [0, 0]
    assert (tree.levels[0].parent == -1).all()


def test_the_reference_tiles_are_the_level_0_tiles_of_an_exhaustive_run(patchy):
    exhaustive = full_run(patchy, Mode.EXHAUSTIVE)
    assert tuples(patchy.reference_tiles()) == [(0, int(c), int(r)) for c, r in exhaustive.levels[0].index]


def test_a_run_without_pruning_sees_21_16_of_the_reference_tiles():
    # 1 + 1/4 + 1/16, on a slide that is tissue all over and 4 k tiles wide and high
    rule = rule_of(np.ones((2 * 12, 2 * 20), bool))
    exhaustive = full_run(rule, Mode.EXHAUSTIVE)
    assert len(rule.reference_tiles()) == 12 * 20
    assert exhaustive.n_tiles * 16 == 21 * len(rule.reference_tiles())
    always = full_run(rule, Mode.PYRAMID, lambda *_: Decision.ZOOM)
    assert always.n_tiles == exhaustive.n_tiles


def test_a_run_that_never_zooms_sees_the_roots_alone(patchy):
    tree = full_run(patchy, decision_of=lambda *_: Decision.STOP)
    assert tree.n_tiles == len(tree.levels[2]) == len(patchy.roots())


def test_an_unreadable_tile_never_hides_its_region(patchy):
    all_unreadable = full_run(patchy, decision_of=lambda *_: Decision.UNREADABLE)
    assert len(all_unreadable.levels[0]) == len(patchy.reference_tiles())
    assert all_unreadable.n_failed == all_unreadable.n_tiles


def test_no_tissue_is_a_valid_empty_tree():
    rule = rule_of(np.zeros((20, 20), bool))
    for mode in Mode:
        tree = full_run(rule, mode)
        assert tree.n_tiles == tree.n_failed == 0
        assert sorted(tree.levels) == [0, 1, 2]


def test_no_root_without_tissue_even_when_no_share_is_asked():
    assert len(rule_of(np.zeros((20, 20), bool), min_root_share=0.0).roots()) == 0


@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_missing_tile_is_an_internal_error(patchy, level):
    predictions = played(patchy, decided)
    victim = np.flatnonzero((predictions["level"] == level) & (predictions["decision"] == Decision.STOP))[0]
    with pytest.raises(InternalError, match=r"\b1 missing, 0 unexpected, 0 twice") as caught:
        build_tree(np.delete(predictions, victim), patchy, Mode.PYRAMID)
    assert caught.value.exit_code == ExitCode.INTERNAL == 70


def test_a_tile_that_is_there_twice_is_an_internal_error(patchy):
    predictions = played(patchy, decided)
    with pytest.raises(InternalError, match=r"0 missing, 0 unexpected, 1 twice"):
        build_tree(np.append(predictions, predictions[:1]), patchy, Mode.PYRAMID)


def test_a_zoomed_parent_that_is_there_twice_with_its_children_is_an_internal_error(patchy):
    predictions = played(patchy, decided)
    zoomed = predictions[(predictions["level"] == 1) & (predictions["decision"] == Decision.ZOOM)][:1]
    under = (predictions["level"] == 0) & (predictions["col"] // 2 == zoomed["col"])
    under &= predictions["row"] // 2 == zoomed["row"]
    with pytest.raises(InternalError, match="twice"):
        build_tree(np.concatenate([predictions, zoomed, predictions[under]]), patchy, Mode.PYRAMID)


def test_a_child_of_a_stopped_tile_is_an_internal_error(patchy):
    predictions = played(patchy, decided)
    stopped = predictions[(predictions["level"] == 1) & (predictions["decision"] == Decision.STOP)]
    stray = predictions[predictions["level"] == 0][:1].copy()
    child = next(c for one in stopped for c in patchy.children(np.array([one], stopped.dtype)))
    stray["col"], stray["row"] = child["col"], child["row"]
    with pytest.raises(InternalError, match=r"0 missing, 1 unexpected, 0 twice"):
        build_tree(np.append(predictions, stray), patchy, Mode.PYRAMID)


def test_one_tile_in_place_of_another_is_an_internal_error(patchy):
    predictions = played(patchy, decided)
    victim = np.flatnonzero(predictions["level"] == 0)[0]
    predictions["col"][victim] = 4000
    with pytest.raises(InternalError, match=r"1 missing, 1 unexpected"):
        build_tree(predictions, patchy, Mode.PYRAMID)


def test_children_of_an_unreadable_tile_are_expected(patchy):
    predictions = played(patchy, decided)
    unreadable = predictions[(predictions["level"] == 1) & (predictions["decision"] == Decision.UNREADABLE)]
    child = patchy.children(unreadable[:1])[0]
    lost = (predictions["level"] == 0) & (predictions["col"] == child["col"]) & (predictions["row"] == child["row"])
    assert lost.sum() == 1
    with pytest.raises(InternalError, match="1 missing"):
        build_tree(predictions[~lost], patchy, Mode.PYRAMID)


def test_zooming_by_mode():
    predictions = played(rule_of(np.ones((16, 16), bool)), decided, Mode.EXHAUSTIVE)
    above = predictions["level"] > 0
    assert (zooms_in(predictions, Mode.EXHAUSTIVE) == above).all()
    assert (zooms_in(predictions, Mode.PYRAMID) == (above & (predictions["decision"] != 0))).all()


def test_the_pyramidal_run_is_part_of_the_exhaustive_one(patchy):
    pyramid, exhaustive = full_run(patchy), full_run(patchy, Mode.EXHAUSTIVE)
    for n, level in pyramid.levels.items():
        assert set(map(tuple, level.index.tolist())) <= set(map(tuple, exhaustive.levels[n].index.tolist()))
    assert pyramid.n_tiles < exhaustive.n_tiles


@pytest.mark.parametrize("mode", Mode)
@pytest.mark.parametrize("share", [0.0, 0.03, 0.3, 0.9, 1.0])
def test_from_any_part_of_a_run_the_frontier_leads_to_the_whole(patchy, mode, share):
    everything = played(patchy, decided, mode)
    by_tile = dict(zip(tuples(everything), everything, strict=True))
    chance = np.random.default_rng(int(share * 100))
    done = everything[chance.random(len(everything)) < share]
    resumption = resumption_of(done, patchy, mode)
    # what a run does from there, tile by tile
    found, waiting = tuples(done[resumption.kept]), tuples(resumption.frontier)
    while waiting:
        tile = waiting.pop()
        found.append(tile)
        own = np.array([by_tile[tile]])
        waiting += tuples(patchy.children(own[zooms_in(own, mode)]))
    assert len(found) == len(set(found))
    assert set(found) == set(by_tile)


def test_nothing_is_done_again_of_a_part_that_a_run_can_have_left(patchy):
    """A tile is never done before its parent is."""
    everything = played(patchy, decided, Mode.PYRAMID)
    done = everything[np.argsort(-everything["level"].astype(int), kind="stable")][: len(everything) * 2 // 3]
    resumption = resumption_of(done, patchy, Mode.PYRAMID)
    assert resumption.kept.all()
    assert not set(tuples(resumption.frontier)) & set(tuples(done))


def test_tiles_without_their_parent_are_done_again_and_of_two_answers_the_later_counts(patchy):
    everything = played(patchy, decided, Mode.PYRAMID)
    rootless = everything[everything["level"] < 2]
    resumption = resumption_of(rootless, patchy, Mode.PYRAMID)
    assert not resumption.kept.any()
    assert tuples(resumption.frontier) == tuples(patchy.roots())
    resumption = resumption_of(np.concatenate([everything, everything]), patchy, Mode.PYRAMID)
    assert resumption.kept.tolist() == [False] * len(everything) + [True] * len(everything)
    assert len(resumption.frontier) == 0


def test_what_was_done_is_sorted_once_however_many_levels_there_are(patchy, monkeypatch):
    everything = played(patchy, decided, Mode.PYRAMID)
    sorted_lengths = []

    def watched(plain):
        def call(array, *others, **options):
            sorted_lengths.append(len(array))
            return plain(array, *others, **options)

        return call

    for name in ("unique", "isin", "sort", "argsort"):
        monkeypatch.setattr(np, name, watched(getattr(np, name)))
    assert resumption_of(everything, patchy, Mode.PYRAMID).kept.all()
    assert sorted_lengths.count(len(everything)) == 1


def test_of_nothing_done_all_is_left(patchy):
    corner = rule_of(np.ones((3, 3), bool))
    for rule in (patchy, corner):
        resumption = resumption_of(played(rule, decided, Mode.REFERENCE)[:0], rule, Mode.REFERENCE)
        assert tuples(resumption.frontier) == tuples(rule.reference_tiles())


@pytest.mark.parametrize("probability", [0.5, np.nan])
def test_no_probability_is_the_mark_of_an_unreadable_tile_and_of_no_other(patchy, probability):
    predictions = played(patchy, decided)
    blank = np.isnan(predictions["probability"]).any(axis=1)
    other = np.argmax(~blank if np.isnan(probability) else blank)
    predictions["probability"][other] = probability
    with pytest.raises(InternalError, match="unreadable"):
        build_tree(predictions, patchy, Mode.PYRAMID)
