"""One slide's runs against counts on sets of tiles, walked with plain tuples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.evaluation.pairing import group_results, runs_of
from pyramidai_mpi.evaluation.slide import DetectionRule, evaluate_slide
from pyramidai_mpi.truth.labels import LabelledResult, read_labelled
from tests.results import write_file
from tests.scored import THRESHOLDS, Scores, scored_result
from tests.trees import rule_of
from tests.truth.files import geojson

if TYPE_CHECKING:
    from pathlib import Path

SCORES = Scores(4, True)
LEVEL_S = (6.0, 2.0, 1.0)


def labelled(folder: Path, mode: Mode, scores: Scores = SCORES, **changes) -> LabelledResult:
    result = scored_result(scores, mode, mpp=1.0, **changes)
    geojson(folder / f"{result.slide.name.removesuffix('.tif')}.geojson", *scores.outlines())
    return read_labelled(write_file(folder / f"{mode}-{scores.seed}-{scores.has_tumor}.h5", result), folder)


@dataclass(frozen=True)
class Walk:
    """A pyramidal run by hand."""

    reached: set[tuple[int, int, int]]
    reference: set[tuple[int, int, int]]


def walk(scores: Scores = SCORES, thresholds: tuple[float, ...] = THRESHOLDS) -> Walk:
    mask = np.ones((2 * scores.rows, 2 * scores.cols), bool)
    mask[:6, :9] = False
    exists = {
        (n, c, r)
        for n in range(3)
        for r in range(scores.rows)
        for c in range(scores.cols)
        if mask[r << n + 1 : r + 1 << n + 1, c << n + 1 : c + 1 << n + 1].any()
    }
    roots = {(2, int(t["col"]), int(t["row"])) for t in rule_of(mask).roots()}

    def below(tiles, passing):
        return {
            (n - 1, 2 * c + i, 2 * r + j) for n, c, r in tiles if passing(n, c, r) for i in (0, 1) for j in (0, 1)
        } & exists

    everything = lambda *tile: True  # noqa: E731
    zoomed = lambda *tile: np.float32(scores.of(*tile)) >= thresholds[tile[0]]  # noqa: E731
    middle = below(roots, zoomed)
    return Walk(roots | middle | below(middle, zoomed), below(below(roots, everything), everything))


def evaluated(*results: LabelledResult, thresholds=None, rule=DetectionRule()):  # noqa: B008
    runs = runs_of(results)
    return evaluate_slide(runs, rule, thresholds)


@pytest.mark.parametrize(
    "modes",
    [
        (Mode.EXHAUSTIVE,),
        (Mode.PYRAMID, Mode.REFERENCE),
        (Mode.EXHAUSTIVE, Mode.PYRAMID),
        (Mode.REFERENCE, Mode.EXHAUSTIVE, Mode.PYRAMID),
    ],
    ids=" and ".join,
)
def test_tiles_and_retention_are_those_counted_by_hand(tmp_path, modes):
    found = evaluated(*(labelled(tmp_path, mode) for mode in modes))
    by_hand = walk()
    wanted = {tile for tile in by_hand.reference if SCORES.in_tumor(*tile) and SCORES.of(*tile) >= THRESHOLDS[0]}
    assert found.cost.analysed == tuple(sum(n == level for n, _, _ in by_hand.reached) for level in range(3))
    assert found.cost.n_reference_tiles == len(by_hand.reference)
    assert found.cost.true_positives == len(wanted) > 40
    assert found.cost.kept == len(wanted & by_hand.reached) > 30
    assert found.retention_unknown == ""
    assert found.n_lesions == 1


def test_other_thresholds_are_judged_on_an_exhaustive_result(tmp_path):
    thresholds = (0.6, 0.7, 0.9)
    runs = runs_of([labelled(tmp_path, Mode.EXHAUSTIVE)])
    assert runs.changed_thresholds({0: 0.6, 1: 0.7, 2: 0.9}) == thresholds
    assert runs.changed_thresholds({1: 0.7}) == (0.5, 0.7, 0.3)
    found, by_hand = evaluated(runs.exhaustive, thresholds=thresholds), walk(thresholds=thresholds)
    wanted = {tile for tile in by_hand.reference if SCORES.in_tumor(*tile) and SCORES.of(*tile) >= 0.6}
    assert found.cost.n_analysed == len(by_hand.reached)
    assert (found.cost.kept, found.cost.true_positives) == (len(wanted & by_hand.reached), len(wanted))
    assert found.cost.kept < found.cost.true_positives
    with pytest.raises(UsageError, match="levels 0 to 2"):
        runs.changed_thresholds({3: 0.1})
    for modes in ((Mode.PYRAMID,), (Mode.PYRAMID, Mode.EXHAUSTIVE), (Mode.REFERENCE,)):
        others = runs_of([labelled(tmp_path, mode) for mode in modes])
        with pytest.raises(UsageError, match="--threshold"):
            others.changed_thresholds({1: 0.7})


def test_why_there_is_no_retention_is_said(tmp_path):
    assert "no reference" in evaluated(labelled(tmp_path, Mode.PYRAMID)).retention_unknown
    reference = evaluated(labelled(tmp_path, Mode.REFERENCE))
    assert reference.cost is None
    assert "no pyramidal" in reference.retention_unknown
    normal = evaluated(labelled(tmp_path, Mode.EXHAUSTIVE, Scores(4, False)))
    assert normal.retention_unknown == "no tumour tile"
    assert normal.cost.speedup > 1
    missed = evaluated(labelled(tmp_path, Mode.EXHAUSTIVE), thresholds=(1.1, 0, 0))
    assert "not" not in missed.retention_unknown
    assert "no tile of it is found" in missed.retention_unknown


def test_seconds_are_measured_where_there_is_a_run(tmp_path):
    pyramid = labelled(tmp_path, Mode.PYRAMID, level_s=(3.0, 1.0, 1.0))
    found = evaluated(pyramid, labelled(tmp_path, Mode.REFERENCE, level_s=(20.0,))).seconds
    assert (found.pyramid, found.reference, found.speedup, found.how) == (5.0, 20.0, 4.0, "measured")


def test_seconds_are_estimated_from_what_a_tile_of_each_level_took(tmp_path):
    exhaustive = labelled(tmp_path, Mode.EXHAUSTIVE, level_s=LEVEL_S)
    by_hand = walk()
    expected = sum(
        LEVEL_S[n] / len(exhaustive.levels[n]) * sum(level == n for level, _, _ in by_hand.reached) for n in range(3)
    )
    found = evaluated(exhaustive).seconds
    assert found.pyramid == pytest.approx(expected)
    assert found.reference == pytest.approx(6.0)
    assert found.how == "estimated"
    pyramid = labelled(tmp_path, Mode.PYRAMID, level_s=(3.0, 0.5, 0.5))
    half = evaluated(exhaustive, pyramid).seconds
    assert (half.pyramid, half.how) == (4.0, "reference estimated")


def test_files_that_tell_no_seconds_give_none(tmp_path):
    found = evaluated(labelled(tmp_path, Mode.EXHAUSTIVE)).seconds
    assert np.isnan(found.speedup)
    assert found.how == ""


def test_why_there_are_no_seconds_is_said(tmp_path):
    level_s = {Mode.EXHAUSTIVE: LEVEL_S, Mode.PYRAMID: (3.0, 1.0, 1.0), Mode.REFERENCE: (20.0,)}

    def unknown(*runs: tuple[Mode, bool]) -> str:
        found = evaluated(
            *(labelled(tmp_path, mode, **{"level_s": level_s[mode]} if told else {}) for mode, told in runs)
        )
        assert bool(found.seconds.unknown) == bool(np.isnan(found.seconds.speedup))
        return found.seconds.unknown

    assert unknown((Mode.EXHAUSTIVE, True)) == unknown((Mode.EXHAUSTIVE, True), (Mode.PYRAMID, False)) == ""
    assert unknown((Mode.PYRAMID, True), (Mode.REFERENCE, True)) == ""
    assert unknown((Mode.REFERENCE, True)) == "no pyramidal or exhaustive result"
    assert unknown((Mode.PYRAMID, True)) == "no reference or exhaustive result"
    assert unknown((Mode.EXHAUSTIVE, False)) == "the exhaustive result holds no times, as after --resume"
    both = unknown((Mode.PYRAMID, False), (Mode.EXHAUSTIVE, False))
    assert both.startswith("the pyramidal and the exhaustive result hold no times")
    half = unknown((Mode.PYRAMID, True), (Mode.REFERENCE, False))
    assert half == "the reference result holds no times, as after --resume"


def test_a_run_points_at_the_lesion_and_past_it(tmp_path):
    found = evaluated(labelled(tmp_path, Mode.EXHAUSTIVE), rule=DetectionRule(0.3, 100.0))
    by_hand = walk()
    # every place is one tile or several near ones; the highest tile of all lies in the lesion
    highest = max(np.float32(SCORES.of(*tile)) for tile in by_hand.reference if SCORES.in_tumor(*tile))
    assert found.reference.findings.lesion_score.tolist() == [highest]
    assert found.reference.n_detections > found.pyramid.n_detections >= 2
    candidates = sum(np.float32(SCORES.of(*tile)) >= 0.3 for tile in by_hand.reference)
    assert len(found.reference.findings.false_score) < found.reference.n_detections < candidates
    alone = evaluated(labelled(tmp_path, Mode.EXHAUSTIVE), rule=DetectionRule(0.3, 0.0))
    assert alone.reference.n_detections == candidates


def test_runs_that_cut_the_slide_otherwise_are_refused(tmp_path):
    one, other = labelled(tmp_path, Mode.PYRAMID), labelled(tmp_path, Mode.EXHAUSTIVE)
    grid = one.rule.grid
    grid = replace(grid, levels=tuple(replace(level, downsample=2 * level.downsample) for level in grid.levels))
    with pytest.raises(InputError, match="other tiles"):
        runs_of([one, replace(other, rule=replace(one.rule, tissue=replace(one.rule.tissue, grid=grid)))])


def test_files_are_grouped_by_slide_in_order(tmp_path):
    modes = (Mode.PYRAMID, Mode.EXHAUSTIVE)
    results = [labelled(tmp_path, mode, Scores(seed, True)) for mode in modes for seed in (1, 2)]
    paths = [one.path for one in results]
    assert group_results(paths) == ((paths[0], paths[2]), (paths[1], paths[3]))
    assert runs_of(results[::2]).pyramid is results[0]
    with pytest.raises(UsageError, match="both pyramid runs"):
        group_results([paths[0], paths[2], paths[0]])


def test_files_of_two_models_are_not_evaluated_together(tmp_path):
    result = scored_result(Scores(2, True))
    other = replace(result, model=replace(result.model, level_sha256=("99", "98", "97")))
    with pytest.raises(InputError, match=r"b\.h5: is of another model"):
        group_results([write_file(tmp_path / "a.h5", scored_result(SCORES)), write_file(tmp_path / "b.h5", other)])
