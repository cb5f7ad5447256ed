"""What a result says of each level-0 tile, walked tile by tile from the top."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.classification.score_map import project_scores, prune, read_score_map
from pyramidai_mpi.pyramid.tree import build_tree
from tests.results import write_file
from tests.scored import THRESHOLDS, Scores, scored_result
from tests.trees import played, rule_of, tissue_in

UNREAD = Decision.UNREADABLE


def decided(level: int, col: int, row: int) -> Decision:
    return [Decision.ZOOM, Decision.STOP, UNREAD, Decision.ZOOM][(level + col * 3 + row * 5) % 4]


@pytest.mark.parametrize("mode", Mode)
def test_every_tile_has_the_score_of_the_last_look_that_could_be_read(mode):
    mask = np.random.default_rng(8).random((35, 45)) < 0.3
    mask[:, 20:30] = False
    rule = rule_of(mask)
    tree = build_tree(played(rule, decided, mode), rule, mode)
    looked_at = {
        (n, *map(int, index)): float(score)
        for n, level in tree.levels.items()
        for index, score in zip(level.index, level.probability[:, 1], strict=True)
    }
    roots = {(int(t["col"]), int(t["row"])) for t in rule.roots()}
    score = project_scores(tree.levels, rule, 1)
    assert score.shape == (18, 23)
    seen = 0
    for row in range(18):
        for col in range(23):
            exists = (
                (col // 4, row // 4) in roots
                and tissue_in(mask, 0, col, row)
                and tissue_in(mask, 1, col // 2, row // 2)
            )
            ladder = [(n, col >> n, row >> n) for n in range(3)]
            known = [looked_at[t] for t in ladder if not np.isnan(looked_at.get(t, np.nan))]
            expected = known[0] if exists and known else np.nan
            assert score[row, col] == pytest.approx(expected, nan_ok=True)
            seen += bool(exists)
    assert seen > 100


def test_a_pyramidal_run_made_of_an_exhaustive_one_is_the_pyramidal_run():
    for has_tumor in (True, False):
        exhaustive, pyramid = (scored_result(Scores(3, has_tumor), mode) for mode in (Mode.EXHAUSTIVE, Mode.PYRAMID))
        kept = prune(exhaustive.tree.levels, 1, dict(enumerate(THRESHOLDS)))
        assert len(pyramid.tree.levels[0]) > 0 or not has_tumor
        for n in range(3):
            for name in ("index", "probability", "decision"):
                np.testing.assert_array_equal(getattr(kept[n], name), getattr(pyramid.tree.levels[n], name))


def test_a_file_of_either_run_gives_the_same_map(tmp_path):
    exhaustive, pyramid = (
        write_file(tmp_path / f"{mode}.h5", scored_result(Scores(1, True), mode))
        for mode in (Mode.EXHAUSTIVE, Mode.PYRAMID)
    )
    whole, pruned, derived = (
        read_score_map(exhaustive),
        read_score_map(pyramid),
        read_score_map(exhaustive, pyramid=True),
    )
    np.testing.assert_array_equal(pruned.score, derived.score)
    assert (pruned.seen == whole.seen).all()
    assert (pruned.score[pruned.seen] != whole.score[whole.seen]).any()
    assert whole.run == "exhaustive"
    assert derived.run == pruned.run == "pyramid, thresholds 0=0.5, 1=0.4, 2=0.3"


def test_other_thresholds_can_be_tried_on_an_exhaustive_result(tmp_path):
    path = write_file(tmp_path / "out.h5", scored_result(Scores(1, True)))
    stopped = read_score_map(path, {2: 1.0})
    coarse = scored_result(Scores(1, True)).tree.levels[2]
    assert set(stopped.score[stopped.seen]) <= set(coarse.probability[:, 1])
    with pytest.raises(UsageError, match="levels 0 to 2"):
        read_score_map(path, {5: 0.1})


def test_a_pyramidal_result_cannot_be_pruned_again(tmp_path):
    path = write_file(tmp_path / "out.h5", scored_result(Scores(1, True), Mode.PYRAMID))
    with pytest.raises(InputError, match=r"out.h5.*pyramid run"):
        read_score_map(path, {1: 0.2})
    np.testing.assert_array_equal(read_score_map(path, pyramid=True).score, read_score_map(path).score)
    reference = write_file(tmp_path / "reference.h5", scored_result(Scores(1, True), Mode.REFERENCE))
    with pytest.raises(InputError, match=r"reference.h5.*reference run"):
        read_score_map(reference, pyramid=True)


def test_a_result_without_its_mode_is_damaged(tmp_path):
    result = scored_result(Scores(1, True))
    bare = replace(result, execution=replace(result.execution, attributes={}))
    with pytest.raises(InputError, match="damaged"):
        read_score_map(write_file(tmp_path / "out.h5", bare))
