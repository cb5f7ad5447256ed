"""Areas that a scanner left out are background; what is missing from within tissue, or from other formats, got lost."""

from __future__ import annotations

import numpy as np
import openslide
import pytest

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.slides.readers.base import LEFT_OUT, MISSING, THERE, UnreadableRegionError
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from tests.faults.test_damaged_slides import analysed, within
from tests.packages import write_package
from tests.tiffs import STORED_TILE, drop_tile, halved, write_philips, write_slide, zero_tile

WRITERS = {"philips": write_philips, "generic": write_slide}


@pytest.fixture(scope="module")
def images():
    """Glass, and tissue in the stored tiles of columns 2..9 and rows 2..8: 1536 x 1408 and halves."""
    whole = np.full((1408, 1536, 3), 244, np.uint8)
    tissue = np.random.default_rng(2).integers(0, 50, (7 * STORED_TILE, 8 * STORED_TILE, 3)).astype(np.uint8)
    whole[2 * STORED_TILE : 9 * STORED_TILE, 2 * STORED_TILE : 10 * STORED_TILE] = tissue + np.array(
        [140, 60, 150], np.uint8
    )
    return [whole, halved(whole), halved(halved(whole))]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model that looks at every tile that holds tissue."""
    return write_package(tmp_path_factory.mktemp("model") / "m", thresholds=(0.5, 0.0, 0.0))


def without(path, level0, level1=(), level2=()):
    """Drop stored tiles (col, row) of each level."""
    for page, tiles in enumerate((level0, level1, level2)):
        for col, row in tiles:
            drop_tile(path, col, row, page)
    return path


# the corner (0..1, 0..1) of level 0, its counterpart on the others as far as whole stored tiles go
GLASS = {"level0": [(0, 0), (1, 0), (0, 1), (1, 1), (11, 10)], "level1": [(0, 0)]}


def test_the_philips_writer_makes_what_openslide_calls_philips(tmp_path, images):
    path = write_philips(tmp_path / "s.tiff", images)
    assert openslide.OpenSlide.detect_format(path) == "philips"
    info = OpenSlideReader(path).info
    assert (info.vendor, info.mpp, info.stored_downsamples) == ("philips", 0.25, (1, 2, 4))


def test_glass_that_was_left_out_changes_nothing_in_a_format_that_leaves_out(tmp_path, images, model):
    whole = analysed(write_philips(tmp_path / "whole.tiff", images), model)
    sparse = analysed(without(write_philips(tmp_path / "sparse.tiff", images), **GLASS), model)
    assert whole.code is sparse.code is ExitCode.OK
    assert sparse.levels == whole.levels
    assert len(whole.levels[0]) >= 14 * 16


def test_glass_that_is_missing_from_another_format_got_lost(tmp_path, images, model):
    # of the level that the tissue is looked for on, since elsewhere nothing reads glass
    path = without(write_slide(tmp_path / "s.tif", images), [], [], [(2, 2)])
    assert analysed(path, model).code is ExitCode.TILES_FAILED


def test_what_is_missing_from_within_tissue_is_unreadable_in_any_format(tmp_path, images, model):
    for name, write in WRITERS.items():
        path = without(write(tmp_path / f"{name}.tiff", images), [(5, 5)])
        outcome = analysed(path, model)
        assert outcome.code is ExitCode.TILES_FAILED
        assert outcome.flagged() == within(0, 5, 5)


def test_a_hole_in_the_level_of_the_mask_counts_as_tissue(tmp_path, images, model):
    whole = analysed(write_philips(tmp_path / "whole.tiff", images), model)
    # stored tile (1, 1) of level 2 is level 0's 512..1023 in x and y, all of it tissue
    outcome = analysed(without(write_philips(tmp_path / "s.tiff", images), [], [], [(1, 1)]), model)
    assert outcome.code is ExitCode.TILES_FAILED
    assert outcome.flagged() == within(2, 1, 1)
    assert outcome.levels[0] == whole.levels[0]


def test_damage_is_no_leaving_out(tmp_path, images, model):
    path = write_philips(tmp_path / "s.tiff", images)
    zero_tile(path, 2, 2, page=2)  # glass and a little tissue
    assert analysed(path, model).code is ExitCode.TILES_FAILED


def test_a_region_partly_left_out_is_white_there_and_one_wholly_left_out_is_refused(tmp_path, images):
    path = without(write_philips(tmp_path / "s.tiff", images), [(5, 5)])
    reader = OpenSlideReader(path)
    left, top = 5 * STORED_TILE, 5 * STORED_TILE
    pixels = reader.read((left - 64, top), 0, (128, 64))
    assert (pixels[:, 64:] == 255).all()
    assert (pixels[:, :64] < 230).all()
    with pytest.raises(UnreadableRegionError, match="none of its pixels"):
        reader.read((left, top), 0, (64, 64))
    _, known = reader.read_what_is_there((left - 64, top), 0, (128, 64))
    assert (known[:, :64] == THERE).all()
    assert (known[:, 64:] == LEFT_OUT).all()
    zero_tile(path, 6, 5)
    _, known = OpenSlideReader(path).read_what_is_there((left + 128, top), 0, (64, 64))
    assert (known == MISSING).all()
