"""Cells in, records out: each with its tissue, those over damage named, pixels read only to be measured."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.analyses.extract import RECORD, Extract, passes
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.patch_order import PatchLimits
from pyramidai_mpi.base.settings import Regions, SlideInput
from pyramidai_mpi.base.types import tiles_at
from pyramidai_mpi.pyramid.tissue import TissueSource, mask_downsample
from pyramidai_mpi.run.cells import open_cells, rule_of_cells
from pyramidai_mpi.slides.source import TileSource
from tests.patch_files import order_of
from tests.tiffs import drop_tile, write_slide


def begun(path, order):
    """The analysis of a slide that is tissue in its left half."""
    slide = open_cells(SlideInput(path, regions=Regions(no_tissue=True)), order)
    downsample = mask_downsample(slide.pyramid.grid)
    mask = np.zeros([round(extent / downsample) for extent in slide.pyramid.reader.info.l0_size[::-1]], bool)
    mask[:, : mask.shape[1] // 2] = True
    rule = rule_of_cells(slide, order, mask, TissueSource())
    return Extract(order), rule, Extract(order).on(slide, rule)


def test_each_cell_has_its_record_with_the_share_of_its_tissue(slide):
    analysis, rule, on_slide = begun(slide, order_of(160, 96))
    tiles = analysis.first(rule)
    look = on_slide.look(tiles, on_slide.prepare(tiles))
    assert look.records.dtype == RECORD
    # 1024 px are 10.7 cells of 96; the middle, at 512, lies a third into cell 5
    assert sorted(set(tiles["col"].tolist())) == [0, 1, 2, 3, 4, 5]
    assert set(tiles["row"].tolist()) == set(range(8))
    np.testing.assert_array_equal(look.records["col"], tiles["col"])
    np.testing.assert_allclose(look.records["tissue"][tiles["col"] < 5], 1)
    np.testing.assert_allclose(look.records["tissue"][tiles["col"] == 5], 1 / 3, atol=0.17)
    assert len(look.closer) == len(look.failed) == 0
    assert len(analysis.closer(rule, look.records)) == 0
    assert not analysis.contradictions(look.records).any()
    on_slide.close()


@pytest.mark.parametrize("share", [-0.1, 1.5, np.nan])
def test_shares_that_are_none_contradict(share):
    records = np.zeros(2, RECORD)
    records["tissue"] = share, 0.5
    assert Extract(order_of()).contradictions(records).tolist() == [True, False]


def test_cells_whose_window_meets_a_missing_tile_have_failed_and_say_why(slide):
    drop_tile(slide, 1, 1)
    analysis, rule, on_slide = begun(slide, order_of(160, 96))
    look = on_slide.look(analysis.first(rule))
    assert look.failed.dtype == FAILED_DTYPE
    # a window of cell c is 96 c - 32 to 96 c + 128; the tile is 128 to 256
    assert {(int(cell["col"]), int(cell["row"])) for cell in look.failed} == {(c, r) for c in (1, 2) for r in (1, 2)}
    assert {cell["reason"] for cell in look.failed} == {
        b"stored tile column 1, row 1 of stored level 0 is not in the file"
    }
    on_slide.close()


def test_where_no_pixels_are_kept_nothing_is_looked_at(slide):
    drop_tile(slide, 1, 1)
    analysis, rule, on_slide = begun(slide, order_of(160, 96, pixels="none"))
    assert len(on_slide.look(analysis.first(rule)).failed) == 0
    on_slide.close()


@pytest.mark.parametrize("compression", ["lzw", "zstd"])
def test_tiles_that_no_decoder_of_ours_takes_cannot_be_kept_and_it_says_what_can(tmp_path, stored_images, compression):
    path = write_slide(tmp_path / "slide.tif", stored_images, compression=compression)
    with pytest.raises(InputError, match=r"only OpenSlide.*--pixels none") as caught:
        begun(path, order_of())
    assert "\n" not in str(caught.value)
    assert len(begun(path, order_of(pixels="none"))[1].roots()) > 50


def test_a_level_that_openslide_interpolates_cannot_be_kept(tmp_path, stored_images):
    path = write_slide(tmp_path / "slide.tif", [stored_images[0], stored_images[1][:, :510]])
    with pytest.raises(InputError, match="stored level 1 is no whole fraction of level 0"):
        begun(path, order_of(level=1))


def test_tiles_that_are_other_than_the_directory_says_cannot_be_kept(tmp_path, stored_images):
    path = write_slide(tmp_path / "slide.tif", stored_images, compression="zlib")
    from pyramidai_mpi.slides.encoded_tiles import EncodedTiles

    slide = open_cells(SlideInput(path), order_of())
    tiles = EncodedTiles(slide.pyramid)
    tiles.check(np.arange(tiles.stored.mosaic.n_tiles))
    object.__setattr__(tiles.stored, "decode", _refuses)
    with pytest.raises(InputError, match="not what its directory says"):
        tiles.check(np.arange(tiles.stored.mosaic.n_tiles))
    slide.pyramid.reader.close()


def _refuses(data: bytes) -> np.ndarray:
    raise ValueError(f"{len(data)} bytes of another kind")


def coloured(width: int, height: int) -> np.ndarray:
    """Squares of 16 px: white by one channel or all, black by one or all, and others."""
    kinds = np.array([(255, 255, 255), (201, 202, 230), (200, 250, 250), (0, 0, 0), (0, 0, 1), (90, 120, 60)], np.uint8)
    chosen = np.random.default_rng(4).integers(len(kinds), size=(-(-height // 16), -(-width // 16)))
    return kinds[chosen].repeat(16, axis=0).repeat(16, axis=1)[:height, :width]


@pytest.fixture(scope="module")
def many_coloured(tmp_path_factory):
    image = coloured(500, 340)
    return image, write_slide(tmp_path_factory.mktemp("slides") / "slide.tif", [image], compression="zlib")


@pytest.mark.parametrize("level", [150, 200, 254])
def test_shares_of_white_and_black_are_those_of_counted_pixels_on_the_slide(many_coloured, level):
    image, path = many_coloured
    analysis, rule, on_slide = begun(path, order_of(96, 64, limits=PatchLimits(white_level=level, measure=True)))
    tiles = analysis.first(rule)
    look = on_slide.look(tiles, on_slide.prepare(tiles))
    assert not len(look.failed)
    for record in look.records:
        x, y = 64 * int(record["col"]) - 16, 64 * int(record["row"]) - 16
        there = image[max(0, y) : y + 96, max(0, x) : x + 96].reshape(-1, 3)
        assert record["white"] == np.float32(sum(min(pixel) > level for pixel in there.tolist()) / len(there))
        assert record["black"] == np.float32(sum(pixel == [0, 0, 0] for pixel in there.tolist()) / len(there))
    assert np.ptp(look.records["white"]) > 0.1
    assert np.ptp(look.records["black"]) > 0.1
    on_slide.close()


def test_at_another_spacing_the_pixels_that_lie_wholly_on_the_slide_are_measured(tmp_path):
    # 0.375 µm are 1.5 of 333 x 250 black pixels: 222 x 166 whole ones; what lies beyond is white, and half a pixel grey
    path = write_slide(tmp_path / "slide.tif", [np.zeros((250, 333, 3), np.uint8)], compression="zlib")
    order = order_of(48, 32, mpp=0.375, limits=PatchLimits(measure=True))
    slide = open_cells(SlideInput(path), order)
    mask = np.ones((100, 100), bool)
    rule = rule_of_cells(slide, order, mask, TissueSource())
    on_slide = Extract(order).on(slide, rule)
    cols, rows = slide.pyramid.grid.shape(0)
    assert (cols, rows) == (7, 6)
    last = tiles_at(0, np.array([[0, 0], [6, 0], [0, 5], [6, 5]]))
    look = on_slide.look(last)
    assert look.records["black"].tolist() == [1, 1, 1, 1]
    assert look.records["white"].tolist() == [0, 0, 0, 0]
    on_slide.close()


def test_what_is_beyond_a_limit_or_cannot_be_read_does_not_pass():
    records = np.zeros(5, RECORD)
    records["white"] = 0.6, 0.61, 0, np.nan, 0.1
    records["black"] = 0, 0, 0.3, np.nan, 0.1
    assert passes(PatchLimits(), records).tolist() == [True] * 5
    assert passes(PatchLimits(max_white=0.6), records).tolist() == [True, False, True, False, True]
    assert passes(PatchLimits(max_white=0.6, max_black=0.1), records).tolist() == [True, False, False, False, True]


def test_windows_that_are_read_ahead_give_the_same(many_coloured):
    analysis, rule, on_slide = begun(many_coloured[1], order_of(96, 64, limits=PatchLimits(measure=True)))
    tiles = analysis.first(rule)
    on_slide._source = TileSource(on_slide._pyramid, "always")
    prepared = on_slide.prepare(tiles)
    assert all(isinstance(found, np.ndarray) for found in prepared)
    ahead, now = on_slide.look(tiles, prepared), on_slide.look(tiles)
    assert ahead.records.tobytes() == now.records.tobytes()
    on_slide.close()
    assert on_slide.prepare(tiles) == [None] * len(tiles)  # of a slide that is closed nothing is read


def test_windows_over_damage_have_failed_also_where_no_pixels_are_kept(slide):
    drop_tile(slide, 1, 1)
    order = order_of(160, 96, pixels="none", limits=PatchLimits(max_white=1))
    analysis, rule, on_slide = begun(slide, order)
    look = on_slide.look(analysis.first(rule))
    assert {(int(cell["col"]), int(cell["row"])) for cell in look.failed} == {(c, r) for c in (1, 2) for r in (1, 2)}
    is_failed = np.isnan(look.records["white"])
    assert is_failed.sum() == 4
    assert not passes(order.limits, look.records[is_failed]).any()
    on_slide.close()
