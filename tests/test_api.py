"""From Python: the same numbers as in the file, and the same run as from the command line."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import openslide
import pytest

import pyramidai_mpi
from pyramidai_mpi.base.errors import InputError, OutputExistsError, UsageError
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.csv_table import write_csv
from pyramidai_mpi.store.results import reader
from pyramidai_mpi.store.results.seal import check_seal
from tests.end_to_end.test_damage import tissue_slide
from tests.packages import write_package
from tests.results import result_of, write_file
from tests.trees import MASK_PER_TILE, TILE

REPOSITORY = Path(pyramidai_mpi.__file__).resolve().parent.parent


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
    for name in frame.columns:
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


def test_what_is_no_result_is_refused(tmp_path):
    with pytest.raises(InputError, match="gone"):
        pyramidai_mpi.open_result(tmp_path / "gone.h5")


def test_another_name_is_not_there():
    with pytest.raises(AttributeError, match="analyze"):
        pyramidai_mpi.analyze  # noqa: B018


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A slide and a model with features."""
    folder = tmp_path_factory.mktemp("notebook")
    tissue_slide(folder / "a.tif")
    write_package(folder / "model", side=64, thresholds=(0.5, 0.45, 0.3), with_features=True)
    return folder


def in_a_process(code: str, *arguments: object) -> str:
    """Output of Python code run on its own, as MPI can be started once a process."""
    words = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=REPOSITORY, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.mpi
def test_analyse_gives_the_result_of_the_command_line(folder, tmp_path):
    code = """
import sys, pathlib, pyramidai_mpi
slide, model = sys.argv[1:3]
result = pyramidai_mpi.analyse(slide, model, features=True)
again = pyramidai_mpi.analyse(slide, model, mode="exhaustive", thresholds={0: 0.9}, output=sys.argv[3])
print(result.digest, result.path, len(again.levels[0]), again.levels[0].record.threshold)
features = result.levels[0].features
assert features.shape[0] == len(result.levels[0]) and features.shape[1] > 0
folder, n_tiles = result.path.parent, len(result.levels[0])
assert folder.is_dir()
del result
assert not folder.exists()
assert len(pyramidai_mpi.analyse(slide, model).levels[0].tiles) == n_tiles
"""
    digest, kept, n_tiles, threshold = in_a_process(
        code, folder / "a.tif", folder / "model", tmp_path / "all.h5"
    ).split()
    run = [
        sys.executable,
        "-m",
        "pyramidai_mpi",
        folder / "a.tif",
        "--model",
        folder / "model",
        "-o",
        tmp_path / "a.h5",
    ]
    subprocess.run(run, cwd=REPOSITORY, check=True, capture_output=True, timeout=120)
    assert digest == pyramidai_mpi.open_result(tmp_path / "a.h5").digest
    assert not Path(kept).exists()
    kept_result = pyramidai_mpi.open_result(tmp_path / "all.h5")
    assert len(kept_result.levels[0]) == int(n_tiles)
    assert float(threshold) == 0.9


@pytest.mark.mpi
def test_analyse_looks_where_it_is_told(folder, tmp_path):
    # the upper left quarter of the slide, as an outline
    with openslide.OpenSlide(folder / "a.tif") as slide:
        width, height = slide.dimensions
    corners = [[0, 0], [width // 2, 0], [width // 2, height // 2], [0, height // 2], [0, 0]]
    outline = {"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [corners]}}
    (tmp_path / "roi.geojson").write_text(json.dumps(outline), encoding="utf-8")
    code = """
import sys, pyramidai_mpi
slide, model, roi = sys.argv[1:]
for options in ({}, {"roi": roi}, {"exclude": roi}, {"no_tissue": True}):
    result = pyramidai_mpi.analyse(slide, model, mode="reference", **options)
    print(len(result.levels[0]))
"""
    tissue, inside, outside, everything = map(
        int, in_a_process(code, folder / "a.tif", folder / "model", tmp_path / "roi.geojson").split()
    )
    assert 0 < inside < tissue
    assert tissue <= inside + outside  # tiles on the border count twice
    assert everything == -(-width // 64) * -(-height // 64)


@pytest.mark.mpi
def test_what_the_command_line_would_end_with_is_raised(folder, tmp_path):
    code = """
import sys, pyramidai_mpi
from pyramidai_mpi.base.errors import InputError, OutputExistsError, UsageError
slide, model, taken = sys.argv[1:]
for error, options in [(InputError, dict(slide=slide + "x", model=model)), (InputError, dict(slide=slide, model=slide)),
                       (OutputExistsError, dict(slide=slide, model=model, output=taken)),
                       (UsageError, dict(slide=slide, model=model, mode="fast")),
                       (UsageError, dict(slide=slide, model=model, backend="abacus")),
                       (UsageError, dict(slide=slide, model=model, thresholds={7: 0.5}))]:
    try:
        pyramidai_mpi.analyse(**options)
    except error as caught:
        print(type(caught).__name__)
"""
    (tmp_path / "taken.h5").touch()
    said = in_a_process(code, folder / "a.tif", folder / "model", tmp_path / "taken.h5").split()
    names = [error.__name__ for error in (InputError, InputError, OutputExistsError, *[UsageError] * 3)]
    assert said == names


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
