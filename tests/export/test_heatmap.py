"""The heatmap opens in tifffile and in OpenSlide, and both see the result's numbers."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import ome_types
import openslide
import pytest
import tifffile

from pyramidai_mpi.base.errors import printable
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.base.types import Decision
from pyramidai_mpi.export.heat_pyramid import halved, quantised
from pyramidai_mpi.export.heatmap import write_heatmap
from tests.results import result_of, write_file
from tests.trees import MASK_PER_TILE

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


@pytest.fixture(scope="module")
def result():
    """Of 700 x 530 mask pixels: three levels of the heatmap, sides odd and even."""
    return result_of(np.random.default_rng(3).random((530, 700)) < 0.05)


@pytest.fixture(scope="module")
def path(result, tmp_path_factory):
    folder = tmp_path_factory.mktemp("heatmap")
    write_heatmap(write_file(folder / "out.h5", result), folder / "heatmap.tif")
    return folder / "heatmap.tif"


def painted(result):
    """Scores painted tile by tile, coarse to fine; NaN off the tissue."""
    heatmap = np.full(result.tissue.mask.shape, np.nan, np.float32)
    for n in (2, 1, 0):
        level, side = result.tree.levels[n], MASK_PER_TILE * 2**n
        for i, (col, row) in enumerate(level.index.tolist()):
            if level.decision[i] != Decision.UNREADABLE:
                heatmap[row * side : (row + 1) * side, col * side : (col + 1) * side] = level.probability[i, 1]
    heatmap[~result.tissue.mask] = np.nan
    return heatmap


def largest_of_four(image):
    """Largest number of each 2 x 2 pixels, pixel by pixel; NaN where there is none."""
    height, width = -(-image.shape[0] // 2), -(-image.shape[1] // 2)
    reduced = np.full((height, width), np.nan, np.float32)
    for y, x in np.argwhere(np.isfinite(image)).tolist():
        reduced[y // 2, x // 2] = np.fmax(reduced[y // 2, x // 2], image[y, x])
    return reduced


@pytest.fixture(scope="module")
def expected(result):
    levels = [painted(result)]
    while max(levels[-1].shape) > 256:
        levels.append(largest_of_four(levels[-1]))
    return levels


def test_it_is_one_tiled_bigtiff_with_an_exact_and_a_grey_pyramid(path, expected):
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        assert [series.name for series in tiff.series] == ["probability", "view"]
        for series, dtype in zip(tiff.series, (np.float32, np.uint8), strict=True):
            assert [level.shape for level in series.levels] == [level.shape for level in expected]
            assert len(series.levels) == 3
            for level in series.levels:
                assert level.dtype == dtype
                assert level.keyframe.is_tiled
                assert level.keyframe.samplesperpixel == 1


def test_every_tissue_pixel_has_its_very_score_in_tifffile(path, expected):
    with tifffile.TiffFile(path) as tiff:
        for level, image in zip(tiff.series[0].levels, expected, strict=True):
            assert np.array_equal(level.asarray(), image, equal_nan=True)


def test_openslide_and_tifffile_see_equal_values_at_every_level(path, expected):
    with openslide.OpenSlide(path) as slide, tifffile.TiffFile(path) as tiff:
        assert list(slide.level_dimensions) == [image.shape[::-1] for image in expected]
        for level, image in enumerate(expected):
            seen = np.asarray(slide.read_region((0, 0), level, slide.level_dimensions[level]))
            grey = tiff.series[1].levels[level].asarray()
            assert all(np.array_equal(seen[..., channel], grey) for channel in range(3))
            score = np.clip(np.nan_to_num(image.astype(float)), 0, 1)  # the made scores run a little over 1
            assert np.array_equal(grey, np.where(np.isnan(image), 0, np.rint(1 + 254 * score)))


def test_the_grey_view_gives_back_a_score_to_a_five_hundredth(path, expected):
    with openslide.OpenSlide(path) as slide:
        seen = np.asarray(slide.read_region((0, 0), 0, slide.dimensions))[..., 0]
    shown = np.isfinite(expected[0])
    assert np.array_equal(seen > 0, shown)
    assert np.abs((seen[shown] - 1.0) / 254 - np.clip(expected[0][shown], 0, 1)).max() <= 0.5 / 254 + 1e-6


def test_both_readers_know_the_size_of_a_pixel(path, result):
    mpp = result.slide.mpp * result.tissue.downsample
    with openslide.OpenSlide(path) as slide:
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_X]) == pytest.approx(mpp, rel=1e-4)
        assert float(slide.properties[openslide.PROPERTY_NAME_MPP_Y]) == pytest.approx(mpp, rel=1e-4)
    with tifffile.TiffFile(path) as tiff:
        images = ElementTree.fromstring(tiff.ome_metadata).findall(f"{OME}Image/{OME}Pixels")
    assert [float(pixels.get("PhysicalSizeX")) for pixels in images] == [mpp, mpp]
    assert [pixels.get("Type") for pixels in images] == ["float", "uint8"]
    assert [pixels.get("SizeC") for pixels in images] == ["1", "1"]


@pytest.mark.parametrize("use", [None, "demonstration"])
def test_both_images_say_what_the_model_is_for(tmp_path, use):
    made = result_of()
    stated = replace(made, model=replace(made.model, intended_use=use))
    write_heatmap(write_file(tmp_path / "out.h5", stated), tmp_path / "heatmap.tif")
    with tifffile.TiffFile(tmp_path / "heatmap.tif") as tiff:
        images = ElementTree.fromstring(tiff.ome_metadata).findall(f"{OME}Image")
        assert np.array_equal(tiff.series[0].asarray(), painted(made), equal_nan=True)
    assert [image.findtext(f"{OME}Description") for image in images] == [claim_of(use) or None] * 2


def ome_xml_of(path):
    with tifffile.TiffFile(path) as tiff:
        return tiff.pages[0].description


def test_its_description_is_valid_by_the_schema_of_ome(path, result):
    assert ome_types.validate_xml(ome_xml_of(path)) is not None
    probability, view = ome_types.from_xml(ome_xml_of(path)).images
    height, width = result.tissue.mask.shape
    for image, kind, directory in ((probability, "float", 3), (view, "uint8", 0)):
        pixels = image.pixels
        assert (pixels.size_x, pixels.size_y, pixels.type.value) == (width, height, kind)
        assert (pixels.physical_size_x, pixels.physical_size_x_unit.value) == (pytest.approx(0.2528 * 32), "µm")
        assert pixels.channels[0].name == "tumor"
        assert pixels.tiff_data_blocks[0].ifd == directory


def test_a_class_of_any_name_leaves_it_valid(tmp_path, result):
    evil = "<&\"'>\x07\n]]> größer"
    model = replace(result.model, classes=("normal", evil), positive_class=evil)
    write_heatmap(write_file(tmp_path / "out.h5", replace(result, model=model)), tmp_path / "heatmap.tif")
    ome_types.validate_xml(ome_xml_of(tmp_path / "heatmap.tif"))
    images = ome_types.from_xml(ome_xml_of(tmp_path / "heatmap.tif")).images
    assert [image.pixels.channels[0].name for image in images] == [printable(evil)] * 2


def test_the_schema_would_refuse_another_word():
    with pytest.raises(Exception, match="Picture"):
        ome_types.validate_xml(f'<OME xmlns="{OME[1:-1]}"><Picture/></OME>')


def test_a_small_slide_needs_one_level(tmp_path):
    result = result_of()
    write_heatmap(write_file(tmp_path / "out.h5", result), tmp_path / "heatmap.tif")
    with openslide.OpenSlide(tmp_path / "heatmap.tif") as slide, tifffile.TiffFile(tmp_path / "heatmap.tif") as tiff:
        assert slide.level_count == len(tiff.series[0].levels) == len(tiff.series[1].levels) == 1
        assert np.array_equal(tiff.series[0].asarray(), painted(result), equal_nan=True)


def test_no_score_is_dark_and_a_score_of_nought_is_not():
    grey = quantised(np.array([np.nan, 0, 0.5, 1], np.float32))
    assert grey.tolist() == [0, 1, 128, 255]


def test_halving_keeps_the_largest_and_ignores_what_is_missing():
    image = np.array([[0.1, 0.2, np.nan], [np.nan, 0.05, np.nan], [0.3, np.nan, 0.4]], np.float32)
    assert np.array_equal(halved(image), np.array([[0.2, np.nan], [0.3, 0.4]], np.float32), equal_nan=True)
