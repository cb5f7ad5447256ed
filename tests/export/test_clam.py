"""CLAM's and TRIDENT's own way of reading gives our tiles and features."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import openslide
import pytest

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.export.clam import write_clam
from pyramidai_mpi.export.coordinate_file import nominal_magnification
from pyramidai_mpi.store.results.writer import TableWriter, create_file, finish_file, slab_of, write_slab
from tests.results import CREATED, result_of, write_file

N_FEATURES = 5


@pytest.fixture
def result():
    made = result_of()
    return replace(made, levels=tuple(replace(level, n_features=N_FEATURES) for level in made.levels))


@pytest.fixture
def features(result):
    rng = np.random.default_rng(0)
    return [rng.random((len(level), N_FEATURES), np.float32) for level in result.tree.levels.values()]


@pytest.fixture
def path(result, features, tmp_path):
    target = tmp_path / "out.h5"
    create_file(target, result, CREATED, "0.1.0")
    write_slab(target, slab_of(result, 0, 1))
    writer = TableWriter(target)
    for level, rows in enumerate(features):
        writer.write(level, "features", 0, rows)
    writer.close()
    finish_file(target, result.execution, result.digest())
    return target


def test_there_is_a_file_for_each_level_named_like_the_slide(path, tmp_path):
    written = write_clam(path, tmp_path / "clam")
    assert written == [tmp_path / "clam" / f"level{n}" / "slide.h5" for n in range(3)]
    assert sorted(tmp_path.rglob("*.*")) == sorted([path, *written])


def test_coordinates_and_features_are_those_of_the_result(path, result, features, tmp_path):
    for n, written in enumerate(write_clam(path, tmp_path / "clam")):
        with h5py.File(written) as file:
            assert file["coords"].dtype == np.int64
            assert np.array_equal(file["coords"][:], result.l0_coords[n])
            assert file["features"].dtype == np.float32
            assert np.array_equal(file["features"][:], features[n])


def test_clam_reads_the_patches_that_were_analysed(lossless_slide, path, result, stored_images, tmp_path):
    # dataset_modules/dataset_h5.py, Whole_Slide_Bag_FP: read_region(coord, patch_level, (patch_size, patch_size))
    with openslide.OpenSlide(lossless_slide) as slide:
        for n, written in enumerate(write_clam(path, tmp_path / "clam")):
            with h5py.File(written) as file:
                attributes, coord = file["coords"].attrs, file["coords"][0]
                side = int(attributes["patch_size"])
                region = slide.read_region(tuple(coord), int(attributes["patch_level"]), (side, side))
            x, y = (coord // 2**n).tolist()
            expected = stored_images[n][y : y + side, x : x + side]
            shown = np.asarray(region.convert("RGB"))[: expected.shape[0], : expected.shape[1]]
            assert expected.size
            assert np.array_equal(shown, expected)


def test_trident_finds_what_it_needs_and_it_says_the_same_area(path, tmp_path):
    # trident/wsi_objects/WSI.py, extract_patch_features: these three are essential
    for n, written in enumerate(write_clam(path, tmp_path / "clam")):
        with h5py.File(written) as file:
            attributes = dict(file["coords"].attrs)
        ratio = attributes["level0_magnification"] / attributes["target_magnification"]
        assert attributes["patch_size"] * ratio == attributes["patch_size_level0"] == 64 * 2**n
        assert attributes["level0_magnification"] == 40
        assert attributes["overlap"] == 0
        assert attributes["name"] == "slide"
        assert (attributes["level0_width"], attributes["level0_height"]) == (1440, 1120)


def test_without_features_coordinates_stand_alone(tmp_path):
    for written in write_clam(write_file(tmp_path / "out.h5", result_of()), tmp_path / "clam"):
        with h5py.File(written) as file:
            assert list(file) == ["coords"]


def test_levels_without_tiles_are_files_without_rows(tmp_path):
    result = result_of(np.zeros((8, 8), bool))
    result = replace(result, levels=tuple(replace(level, n_features=N_FEATURES) for level in result.levels))
    written = write_clam(write_file(tmp_path / "out.h5", result), tmp_path / "clam")
    assert [path.parent.name for path in written] == ["level0", "level1", "level2"]
    for path in written:
        with h5py.File(path) as file:
            assert (file["coords"].shape, file["features"].shape) == ((0, 2), (0, N_FEATURES))
            assert file["coords"].attrs["level0_magnification"] == 40


def test_of_a_result_of_fewer_levels_no_file_of_an_older_one_is_left(path, tmp_path):
    written = write_clam(path, tmp_path / "clam")
    for other in (written[2].parent.with_name("level3") / "slide.h5", written[2].with_name("other.h5")):
        other.parent.mkdir(exist_ok=True)
        other.touch()
    write_clam(path, tmp_path / "clam", overwrite=True)
    assert sorted((tmp_path / "clam").rglob("*.h5")) == sorted([*written, written[2].with_name("other.h5")])


def test_nothing_is_written_when_one_file_is_in_the_way(path, tmp_path):
    (tmp_path / "clam" / "level2").mkdir(parents=True)
    (tmp_path / "clam" / "level2" / "slide.h5").write_text("mine")
    with pytest.raises(OutputExistsError, match="level2"):
        write_clam(path, tmp_path / "clam")
    assert [each.name for each in (tmp_path / "clam").rglob("*.h5")] == ["slide.h5"]


@pytest.mark.parametrize(("mpp", "power"), [(0.11, 80), (0.17, 60), (0.2528, 40), (0.5, 20), (1, 10), (2, 5), (8, 2)])
def test_magnifications_are_the_customary_ones(mpp, power):
    assert nominal_magnification(mpp) == power
