"""A result opened from Python: the same numbers as in the file."""

from __future__ import annotations

import csv
import re
import subprocess
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest

import pyramidai_mpi
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.csv_table import write_csv
from pyramidai_mpi.store.results import reader
from pyramidai_mpi.store.results.seal import check_seal
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.results import result_of, write_file
from tests.trees import MASK_PER_TILE, TILE


@pytest.fixture(scope="module")
def made():
    return result_of()


@pytest.fixture
def path(made, tmp_path):
    return write_file(tmp_path / "out.h5", made)


@pytest.fixture
def result(path):
    return pyramidai_mpi.open_result(path)


def test_levels_hold_the_numbers_of_the_file(result, path):
    with h5py.File(path) as file:
        for n, level in enumerate(result.levels):
            group = file[f"levels/{n}"]
            assert len(level) == len(group["index"])
            assert np.array_equal(np.stack([level.tiles["col"], level.tiles["row"]], axis=1), group["index"][...])
            assert np.array_equal(np.stack([level.tiles["l0_x"], level.tiles["l0_y"]], axis=1), group["coords"][...])
            assert set(level.tiles["l0_side"].tolist()) == {int(group.attrs["patch_size_level0"])}
            assert np.array_equal(level.tiles["probability"], group["probability"][...], equal_nan=True)
            assert np.array_equal(level.tiles["decision"], group["decision"][...])
            assert np.array_equal(level.tiles["parent"], group["parent"][...])
            assert level.features is None
        assert np.array_equal(result.tissue, file["tissue/mask"][...] == 1)


def test_the_tree_and_the_digest_are_those_of_the_run(result, made):
    assert result.digest == made.digest()
    assert result.tree.n_tiles == made.tree.n_tiles
    assert result.tree.count(Decision.ZOOM) == made.tree.count(Decision.ZOOM)
    assert result.summary.slide == "slide.tif"


def test_a_data_frame_has_the_columns_and_numbers_of_the_csv(result, path, tmp_path):
    write_csv(path, tmp_path / "tiles.csv")
    with (tmp_path / "tiles.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["level"] == "1"]
    frame = result.levels[1].to_pandas()
    assert list(frame.columns) == list(rows[0])
    assert len(frame) == len(rows)
    assert frame["outcome"].tolist() == [row["outcome"] for row in rows]
    for name in frame.columns.drop("outcome"):
        expected = np.array([float(row[name] or "nan") for row in rows])
        assert np.array_equal(frame[name].to_numpy().astype(np.float32), expected.astype(np.float32), equal_nan=True)


def test_the_heatmap_at_the_masks_spacing_shows_the_last_look(result, made):
    heatmap = result.heatmap()
    assert heatmap.values.shape == made.tissue.mask.shape
    assert heatmap.spacing_um_px == pytest.approx(0.2528 * 32)
    assert np.isnan(heatmap.values[~made.tissue.mask]).all()
    for y, x in np.argwhere(made.tissue.mask)[::7].tolist():
        found = result.tile_at((x + 0.5) * 32, (y + 0.5) * 32)
        while found is not None and np.isnan(found[1]["probability"][1]):
            coarser = found[0] + 1
            found = result.tile_at((x + 0.5) * 32, (y + 0.5) * 32, coarser) if coarser < 3 else None
        expected = np.nan if found is None else found[1]["probability"][1]
        assert np.array_equal(heatmap.values[y, x], expected, equal_nan=True)


def test_the_heatmap_comes_at_any_spacing(result, made):
    heatmap = result.heatmap(0.2528 * 64)
    assert heatmap.values.shape == (-(-35 * 32 // 64), -(-45 * 32 // 64))
    assert np.allclose(np.diff(heatmap.x_um), 0.2528 * 64)
    assert heatmap.y_um[0] == pytest.approx(0.2528 * 32)
    for y, x in np.ndindex(heatmap.values.shape):
        # the centre of a pixel lies on the corner of four mask pixels and belongs to the lower right one
        row, col = min(2 * y + 1, 34), min(2 * x + 1, 44)
        assert np.isfinite(heatmap.values[y, x]) <= made.tissue.mask[row, col]


@pytest.mark.parametrize("spacing", [0, -1, float("nan")])
def test_a_spacing_that_is_none_is_refused(result, spacing):
    with pytest.raises(UsageError, match="spacing"):
        result.heatmap(spacing)


def test_the_tile_at_a_point_is_the_finest_over_it(result, made):
    present = {(n, int(col), int(row)) for n, level in made.tree.levels.items() for col, row in level.index.tolist()}
    rng = np.random.default_rng(1)
    for l0_x, l0_y in (rng.random((200, 2)) * (1440, 1120)).tolist():
        over = [(n, int(l0_x // (TILE * 2**n)), int(l0_y // (TILE * 2**n))) for n in range(3)]
        expected = next((tile for tile in over if tile in present), None)
        found = result.tile_at(l0_x, l0_y)
        assert (None if found is None else (found[0], int(found[1]["col"]), int(found[1]["row"]))) == expected
        if over[2] in present:
            level, tile = result.tile_at(l0_x, l0_y, level=2)
            assert (level, int(tile["col"]), int(tile["row"])) == over[2]
    assert MASK_PER_TILE == 2
    assert result.tile_at(-5, 3) is None
    assert result.tile_at(5, -3) is None
    assert result.tile_at(1e6, 1e6) is None


@pytest.mark.parametrize("level", [-1, 3, 0.5])
def test_a_level_that_is_not_there_is_refused(result, level):
    with pytest.raises(UsageError, match="levels 0 to 2"):
        result.tile_at(5, 5, level)


@pytest.mark.parametrize("point", [(float("nan"), 3), (3, float("inf"))])
def test_a_point_that_is_nowhere_is_refused(result, point):
    with pytest.raises(UsageError, match="point"):
        result.tile_at(*point)


def test_a_column_or_row_beyond_all_grids_holds_no_tile(result):
    level = result.levels[0]
    col, row = int(level.tiles["col"][-1]), int(level.tiles["row"][-1])
    assert level.row_of(col, row) == len(level) - 1
    assert level.row_of(col + (1 << 32), row - 1) is None
    assert level.row_of(col, row + (1 << 70)) is None
    assert result.tile_at(1e30, 5) is None


def test_a_notebooks_looks_hash_the_file_once(path, monkeypatch):
    hashed = []
    monkeypatch.setattr(reader, "check_seal", lambda path: hashed.append(path) or check_seal(path))
    result = pyramidai_mpi.open_result(path)
    for level in result.levels:
        assert len(level.tiles) == len(level)
        assert level.features is None
    looks = [result.tree, result.tissue, result.digest, result.summary, result.heatmap(), result.heatmap(8.0)]
    assert len(looks) == 6
    assert hashed == [path]


def test_a_result_that_was_written_anew_is_not_read_on(result, path, made):
    write_file(path.with_name("new.h5"), made).replace(path)
    with pytest.raises(InputError, match=r"out\.h5: was changed since it was opened; open it again"):
        result.levels[0].tiles  # noqa: B018


@pytest.mark.parametrize(
    "look",
    [
        lambda result: result.levels[0].tiles,
        lambda result: result.levels[0].row_of(0, 0),
        lambda result: result.levels[0].to_pandas(),
        lambda result: result.tree,
        lambda result: result.tissue,
        lambda result: result.areas,
        lambda result: result.digest,
        lambda result: result.summary,
        lambda result: result.warning,
        lambda result: result.heatmap(),
        lambda result: result.tile_at(5, 5),
    ],
)
def test_whatever_is_asked_of_a_result_raises_one_of_pythons_own_exceptions(result, path, made, look):
    write_file(path.with_name("new.h5"), made).replace(path)
    with pytest.raises(ValueError, match="was changed since it was opened") as caught:
        look(result)
    assert type(caught.value) is pyramidai_mpi.errors.InputError


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(InputError, match="gone"):
        pyramidai_mpi.open_result(tmp_path / "gone.h5")


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="analyze"):
        pyramidai_mpi.analyze  # noqa: B018


def test_a_data_frame_without_pandas_names_the_extra(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pip install 'pyramidai-mpi\[pandas\]'"):
        result.levels[0].to_pandas()


def test_the_example_of_the_readme_runs(tmp_path, made):
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"<!-- ci: python -->\n```python\n(.*?)```", readme, re.DOTALL)
    write_file(tmp_path / "slide.h5", replace(made, slide=replace(made.slide, name="slide.tif")))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert str(int((made.tree.levels[0].decision == Decision.ZOOM).sum())) in done.stdout
