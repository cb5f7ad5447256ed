"""Which tiles are explained: of results by brute force, of tables, of points."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.explain_order import ExplainOrder, TilesWanted
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.csv_table import write_csv
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.run.explaining_levels import SlideState
from pyramidai_mpi.run.explaining_tiles import ChosenTiles, choose_tiles, in_order, read_tile_table, tiles_at_points
from tests.results import result_of, write_file

SLIDE = Path("somewhere/slide.tif")


@pytest.fixture(scope="module")
def made():
    return result_of()


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("result") / "out.h5", made)


def package_like(result, **changes):
    model = result.model
    said = {name: getattr(model, name) for name in ("classes", "tile_size", "scale_factor", "base_mpp", "stain")}
    levels = [SimpleNamespace(sha256=one) for one in model.level_sha256]
    said |= {"levels": levels, "folder": Path("model"), "name": "like", "score_column": 1}
    return SimpleNamespace(**(said | changes))


def chosen(made, path, level=0, **wanted):
    return choose_tiles(TilesWanted(**wanted), ExplainOrder(level=level), package_like(made), path, SLIDE)


@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize("n", [1, 7, 10**6])
def test_the_highest_scores_are_those_of_a_sorted_list(made, path, level, n):
    table = made.tree.levels[level]
    readable = [
        (-float(score), int(row), int(col))
        for (col, row), score in zip(table.index, table.probability[:, 1], strict=True)
        if np.isfinite(score)
    ]
    expected = sorted((row, col) for _, row, col in sorted(readable)[:n])
    found = chosen(made, path, level, top=n)
    assert [(row, col) for col, row in found.index.tolist()] == expected


def test_positive_tiles_are_those_above_the_threshold_with_the_results_probabilities(made, path):
    table = made.tree.levels[0]
    found = chosen(made, path, positive=True)
    expected = {tuple(index): p for index, p, d in zip(
        table.index.tolist(), table.probability, table.decision, strict=True
    ) if d == Decision.ZOOM}  # fmt: skip
    assert [tuple(one) for one in found.index.tolist()] == sorted(expected, key=lambda place: place[::-1])
    for place, known in zip(found.index.tolist(), found.known, strict=True):
        np.testing.assert_array_equal(known, expected[tuple(place)])
    assert found.result is not None
    assert (found.result.quickhash, found.result.mpp) == (made.slide.quickhash, made.slide.mpp)


def test_tiles_of_a_point_or_a_table_need_not_be_in_the_result(made, path, tmp_path):
    table = made.tree.levels[1]
    there = {tuple(place) for place in table.index.tolist()}
    missing = next((c, r) for r in range(17) for c in range(22) if (c, r) not in there)
    (tmp_path / "t.csv").write_text(
        f"level,col,row\n1,{missing[0]},{missing[1]}\n0,1,1\n1,{table.index[0][0]},{table.index[0][1]}\n"
    )
    found = chosen(made, path, 1, file=tmp_path / "t.csv")
    assert {tuple(one) for one in found.index.tolist()} == {missing, tuple(table.index[0].tolist())}
    is_missing = [tuple(one) == missing for one in found.index.tolist()]
    assert np.isnan(found.known).all(axis=1).tolist() == is_missing
    l0_x, l0_y = made.l0_coords[1][3]
    at_point = chosen(made, path, 1, points=((int(l0_x), int(l0_y)),))
    assert at_point.index.tolist() == [table.index[3].tolist()]


def test_an_exported_table_names_the_tiles_it_holds(made, path, tmp_path):
    write_csv(path, tmp_path / "all.csv")
    for level in range(3):
        index, points = read_tile_table(tmp_path / "all.csv", level)
        assert not len(points)
        assert in_order(index).tolist() == made.tree.levels[level].index.tolist()


@pytest.mark.parametrize("downsample", [1.0, 4.0, 3.98765, 0.7])
def test_corners_and_middles_of_tiles_are_points_of_these_tiles(downsample):
    grid = Grid.of_tiles(90001, 70001, 224, 2, 2, downsample)
    for level in range(2):
        cols, rows = grid.shape(level)
        index = np.random.default_rng(1).integers(0, (cols, rows), (500, 2))
        corners = grid.l0_corners(level, index)
        middles = np.minimum(corners + round(grid.l0_side(level) / 2), (90000, 70000))
        for points in (corners, middles):
            assert tiles_at_points(grid, level, points, "x").tolist() == index.tolist()


def test_what_is_chosen_and_done_survives_the_way_to_other_ranks(made, path):
    for one in (chosen(made, path, top=5), ChosenTiles(np.empty((0, 2), np.int64), np.array([[3, 4]], np.int64))):
        again = ChosenTiles.from_bytes(one.to_bytes())
        assert again.result == one.result
        for name in ("index", "points", "known"):
            np.testing.assert_array_equal(getattr(again, name), getattr(one, name))
    for lengths in ([], [3, 0, 64]):
        scores = tuple(np.arange(n, dtype=np.float32) for n in lengths)
        state = SlideState(np.arange(len(lengths)), scores, "[1]")
        again = SlideState.from_bytes(state.to_bytes())
        assert [one.tolist() for one in again.scores] == [one.tolist() for one in scores]
        assert (again.rounds.tolist(), again.stain_map) == (list(range(len(lengths))), "[1]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("col,roww\n1,2\n", "names no tiles"),
        ("", "names no tiles"),
        ("col,row\n1,x\n", "line 2: place 'x'"),
        ("col,row\n1.5,2\n", "line 2: place '1.5'"),
        ("level,col,row\n1,2,3\n", "has no tile of level 0"),
        ("col,row\n", "has no tile of level 0"),
    ],
)
def test_tables_that_name_no_tiles_are_refused(tmp_path, text, said):
    path = tmp_path / "tiles.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_tile_table(path, 0)


def test_of_several_slides_each_has_its_table_in_a_folder(made, path, tmp_path):
    (tmp_path / "slide.txt").write_text("l0_x\tl0_y\n5\t7\n")
    found = choose_tiles(TilesWanted(file=tmp_path), ExplainOrder(), package_like(made), None, SLIDE)
    assert (found.index.tolist(), found.points.tolist()) == ([], [[5, 7]])
    with pytest.raises(InputError, match=r"expected one table other\.csv or other\.txt or other\.tsv"):
        choose_tiles(TilesWanted(file=tmp_path), ExplainOrder(), package_like(made), None, Path("other.svs"))


def test_what_cannot_be_meant_is_refused(made, path):
    with pytest.raises(UsageError, match="--tiles top:3 are those of a result"):
        choose_tiles(TilesWanted(top=3), ExplainOrder(), package_like(made), None, SLIDE)
    other = package_like(made, levels=[SimpleNamespace(sha256="9" * 64)] * 3)
    with pytest.raises(InputError, match="result of another network at level 0"):
        choose_tiles(TilesWanted(top=3), ExplainOrder(), other, path, SLIDE)
    with pytest.raises(UsageError, match=r"scores are of class tumor .*say with --class"):
        choose_tiles(TilesWanted(top=3), ExplainOrder(), package_like(made, score_column=0), path, SLIDE)
    order = ExplainOrder(class_name="normal")
    assert len(choose_tiles(TilesWanted(top=3), order, package_like(made, score_column=0), path, SLIDE).index) == 3
    with pytest.raises(InputError, match="lies outside the slide"):
        chosen(made, path, points=((10**7, 3),))
    with pytest.raises(InputError, match="tile col 9999 row 0 of level 0 lies outside"):
        ChosenTiles(np.array([[9999, 0]])).of(Grid.of_tiles(999, 999, 64, 2, 1, 1.0), 0, "x")
