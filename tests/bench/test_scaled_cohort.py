"""Slides on many cores: how much there is to do by the truth's own counts, and how long it takes in closed form."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace

import numpy as np
import pytest

from bench.paper.lesions import load_outlines
from bench.paper.slide_geometry import TILE_PX, TissueModel, build_geometry
from bench.scale.camelyon_cohort import SimulatedCohort, SlideTiles, build_cohort, play_cohort
from bench.scale.scaled_cohort import SLIDE_GIGAPIXELS, alone_s, at_stride, scale
from bench.scale.scaling_tables import MARK, comparison_lines, cost_lines, file_system_lines, put_into, scaled_lines
from bench.scale.tile_costs import EngineCosts, MeasuredCosts, SlideCosts
from tests.bench.small_cohort import small_cohort

ENGINE = EngineCosts(
    "made", random_weights=True, stains=False, infer_s=(0.02, 0.03, 0.04), loading_s=2.0, model_bytes=9
)
SLIDE = SlideCosts(
    machine="made",
    slide="made.tif",
    read_s=(0.001, 0.002, 0.003),
    read_bytes=(30e3, 60e3, 90e3),
    stain_s=0.0005,
    opening_s=0.5,
    reopening_s=0.01,
    tissue_s_per_gigapixel=0.1,
    writing_s=1e-6,
    scheduler_share=0.05,
)
COSTS = MeasuredCosts(SLIDE, (ENGINE,))


@pytest.fixture(scope="module")
def trees():
    return small_cohort().slides


@pytest.fixture(scope="module")
def cohort(trees) -> SimulatedCohort:
    thresholds = (0.5, 0.4, 0.3)
    return SimulatedCohort(tuple(SlideTiles.of(tree, thresholds) for tree in trees), 0.9, 12)


def triangle(side_tiles: float) -> dict[str, list]:
    side = side_tiles * TILE_PX
    return {"positive": [[[90_000.0, 90_000.0], [90_000.0 + side, 90_000.0], [90_000.0, 90_000.0 + side]]]}


def zoomed_by_hand(tree, thresholds) -> list[set[tuple[int, int]]]:
    """Tiles that a pyramidal run meets, level 0 first, by following children tile by tile."""
    found = [set() for _ in tree.levels]
    top = tree.n_levels - 1
    tiles = [set(map(tuple, level.index.tolist())) for level in tree.levels]
    found[top] = tiles[top]
    for n in range(top, 0, -1):
        scores = dict(zip(map(tuple, tree.levels[n].index.tolist()), tree.levels[n].score.tolist(), strict=True))
        for col, row in found[n]:
            if scores[col, row] >= thresholds[n]:
                family = {(2 * col + i, 2 * row + j) for i in (0, 1) for j in (0, 1)}
                found[n - 1] |= family & tiles[n - 1]
    return found


def test_the_tiles_of_the_pyramid_are_those_met_by_following_children_one_by_one(trees, cohort) -> None:
    counts = np.sum([[len(level) for level in zoomed_by_hand(tree, (0.5, 0.4, 0.3))] for tree in trees], axis=0)
    assert cohort.analysed == tuple(counts.tolist())
    forest = cohort.pyramid()
    assert np.bincount(forest.level[forest.is_tile], minlength=3).tolist() == counts.tolist()


def test_the_tiles_of_the_reference_run_are_all_of_level_0_that_the_geometry_has(trees, cohort) -> None:
    everything = sum(len(tree.levels[0].index) for tree in trees)
    assert cohort.n_reference == cohort.reference().n_tiles == everything


def test_children_in_the_pool_lie_one_level_below_their_parents_on_the_same_slide(cohort) -> None:
    forest = cohort.pyramid()
    below = forest.parent >= 0
    above = forest.parent[below]
    assert (forest.level[below] + 1 == forest.level[above]).all()
    assert (forest.slide[below] == forest.slide[above]).all()


def expected_work(cohort, run: str) -> float:
    """Sum of all costs written out: tiles with the scheduler's share, openings."""
    per_tile = [0.021 * 1.05, 0.032 * 1.05, 0.043 * 1.05]
    tiles = cohort.analysed if run == "pyramid" else (cohort.n_reference, 0, 0)
    openings = len(cohort.slides) * (0.5 + 0.1 * 97792 * 221184 / 1e9)
    return sum(n * s for n, s in zip(tiles, per_tile, strict=True)) + openings


@pytest.mark.parametrize("run", ["pyramid", "reference"])
def test_one_core_takes_the_sum_of_all_costs(cohort, run: str) -> None:
    tiles = cohort.analysed if run == "pyramid" else (cohort.n_reference,)
    forest = cohort.pyramid() if run == "pyramid" else cohort.reference()
    found = scale(forest, run, tiles, COSTS, ENGINE, 1)
    writing = 1e-6 * sum(tiles)
    expected = 2.0 + expected_work(cohort, run) + writing * (1 + 1 / len(cohort.slides))
    # of each level of each slide the last batch may lack three tiles, and takes as long as with them
    padding = 3 * 0.043 * 1.05 * 3 * len(cohort.slides)
    assert expected < found.makespan_s < expected + padding + 0.1
    lost = found.loading_s + found.began_s + found.between_s + found.ended_s + found.beside_s
    assert expected_work(cohort, run) <= found.makespan_s - lost < expected_work(cohort, run) + padding
    assert found.loading_s == 2.0
    assert found.began_s == 0
    assert found.reopened_s == 0
    assert found.tiles == sum(tiles)


def test_no_number_of_cores_beats_an_even_share_and_few_come_near_it(cohort) -> None:
    forest = cohort.pyramid()
    for cores in (2, 5):
        found = scale(forest, "pyramid", cohort.analysed, COSTS, ENGINE, cores)
        even = 2.0 + expected_work(cohort, "pyramid") / cores
        assert even < found.makespan_s < 1.1 * even
        assert found.efficiency < found.scheduled <= 1


def test_bytes_asked_of_the_file_system_are_those_of_all_tiles_over_the_time(cohort) -> None:
    found = scale(cohort.pyramid(), "pyramid", cohort.analysed, COSTS, ENGINE, 4)
    asked = sum(n * size for n, size in zip(cohort.analysed, (30e3, 60e3, 90e3), strict=True))
    assert found.bytes_per_s * found.makespan_s == pytest.approx(asked)
    a_core = asked / found.makespan_s / 4
    assert found.cores_at(1e9) * a_core == pytest.approx(1e9)


def test_stain_normalisation_is_paid_by_models_that_ask_for_it() -> None:
    plain, stained = COSTS.tile_s(ENGINE), COSTS.tile_s(replace(ENGINE, stains=True))
    assert plain == pytest.approx((0.021, 0.032, 0.043))
    assert np.subtract(stained, plain) == pytest.approx([0.0005] * 3)


def test_one_core_alone_loads_works_and_writes() -> None:
    assert alone_s(100.0, 4.0, 8, ENGINE) == 2 + 100 + 4 + 4 / 8


def test_costs_are_kept_as_they_were(tmp_path) -> None:
    COSTS.save(tmp_path / "costs.json")
    assert MeasuredCosts.load(tmp_path / "costs.json") == COSTS


def test_missing_costs_are_refused_with_what_to_do(tmp_path) -> None:
    with pytest.raises(SystemExit, match="--measure"):
        MeasuredCosts.load(tmp_path / "none.json")


def test_thresholds_are_chosen_on_the_other_slides_than_the_retention_is_given_for() -> None:
    tissue = TissueModel(mean_tiles=300, spread=0.2)
    geometries = [build_geometry(f"s{k}", triangle(3.3 + k), tissue) for k in range(6)]
    both = [play_cohort(geometries, test) for test in ([True] * 3 + [False] * 3, [False] * 3 + [True] * 3)]
    assert both[0].analysed != both[1].analysed
    assert all(0.5 < cohort.retention <= 1 for cohort in both)
    assert both[0].n_reference == both[1].n_reference


def test_slides_follow_the_list_and_tumours_without_outlines_get_those_of_their_class(tmp_path) -> None:
    outlines = {"tumor_001": triangle(60.0), "tumor_002": triangle(6.0), "tumor_003": triangle(7.0)}
    (tmp_path / "outlines.json.gz").write_bytes(gzip.compress(json.dumps(outlines).encode()))
    listed = ["tumor_001", "tumor_002", "tumor_003", "normal_001", "test_001", "test_002", "test_003"]
    with (tmp_path / "labels.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["filenames", "tumor"])
        rows.writerows([f"{name}.tif.npy", str("normal" not in name and name != "test_003")] for name in listed)
    (tmp_path / "reference.csv").write_text(
        "test_001,Tumor,IDC,Macro\ntest_002,Tumor,IDC,Micro\ntest_003,Normal,IDC,None\n"
    )
    cohort = build_cohort(load_outlines(tmp_path / "outlines.json.gz"), tmp_path / "labels.csv", mean_tiles=300)
    assert len(cohort.slides) == len(listed)
    assert cohort.tumor_slides == 5
    # 60 x 60 / 2 tiles of lesion fill 80 % of the tissue at most; the others have about 300 tiles
    large = [slide.n_reference > 1800 for slide in cohort.slides]
    assert dict(zip(listed, large, strict=True)) == {name: name in ("tumor_001", "test_001") for name in listed}


def test_tables_name_every_engine_and_run(cohort) -> None:
    found = [
        scale(cohort.pyramid(), "pyramid", cohort.analysed, COSTS, ENGINE, 3),
        scale(cohort.reference(), "reference", (cohort.n_reference,), COSTS, ENGINE, 3),
    ]
    for lines in (scaled_lines(found), file_system_lines(found), comparison_lines(found, cohort, COSTS)):
        text = "\n".join(lines)
        assert "pyramid" in text
        assert "reference" in text
        assert "made" in text
    assert "0.50" in "\n".join(cost_lines(COSTS))
    assert pytest.approx(21.63, abs=0.01) == SLIDE_GIGAPIXELS


def test_tables_replace_what_lay_between_the_marks_and_nothing_else(tmp_path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{MARK}\nold\n{MARK}\nafter\n")
    for tables in ("first\n", "second\n"):
        put_into(page, tables)
    assert page.read_text() == f"before\n{MARK}\n\nsecond\n\n{MARK}\nafter\n"
    page.write_text(f"{MARK} alone")
    with pytest.raises(SystemExit, match="twice"):
        put_into(page, "new")
    assert page.read_text() == f"{MARK} alone"


def test_a_tile_of_the_published_run_has_the_core_seconds_of_18_years(cohort) -> None:
    row = next(line for line in comparison_lines([scaled_once(cohort)], cohort, COSTS) if "Li et al." in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert float(cells[1]) == pytest.approx(18 * 365.25 * 24, rel=1e-3)
    assert float(cells[2]) == pytest.approx(18 * 365.25 * 86400 / cohort.n_reference, rel=5e-3)
    assert float(cells[2]) / float(cells[5]) == pytest.approx(14 * 14, rel=0.01)  # a prediction every 16 pixels


def scaled_once(cohort):
    return scale(cohort.pyramid(), "pyramid", cohort.analysed, COSTS, ENGINE, 2)


def test_a_tile_of_windows_at_a_stride_costs_them_all(cohort) -> None:
    dense = at_stride(COSTS, 16)
    # 14 x 14 windows in a square of 13 * 16 + 224 pixels
    assert dense.tile_s(dense.engines[0]) == (pytest.approx(0.001 * (432 / 224) ** 2 + 196 * 0.02),)
    alone = at_stride(COSTS, 224)
    assert alone.tile_s(alone.engines[0]) == (pytest.approx(COSTS.tile_s(ENGINE)[0]),)
    plain, strided = (
        scale(cohort.reference(), "reference", (cohort.n_reference,), costs, costs.engines[0], 1, grain=1)
        for costs in (COSTS, dense)
    )
    seconds = cohort.n_reference * 1.05 * (dense.tile_s(dense.engines[0])[0] - COSTS.tile_s(ENGINE)[0])
    written = cohort.n_reference * 195 * SLIDE.writing_s * (1 + 1 / len(cohort.slides))
    assert strided.makespan_s - plain.makespan_s == pytest.approx(seconds + written, rel=1e-6)
