"""Truth of tiles, against counting pixel by pixel."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.training.tiles import LEVELS, MIN_TISSUE, TILE, draw_tiles, load_slide


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    spec = SynthSpec(2700, 2500, seed=21, tumor_share=0.4)
    return write_slide(spec, tmp_path_factory.mktemp("slides") / "slide.tif")


@pytest.fixture(scope="module")
def slide(written):
    return load_slide(written.path)


@pytest.fixture(scope="module")
def masks(written, slide):
    """Tumour and tissue at full resolution, found another way."""
    height, width = slide.levels[0].shape[:2]
    canvas = Image.new("1", (width, height))
    for region in written.regions:
        ImageDraw.Draw(canvas).polygon(region.outline, fill=1)
    return np.asarray(canvas), slide.levels[0].min(axis=2) < 222


@pytest.mark.parametrize("level", LEVELS)
def test_shares_agree_with_counting_pixels(slide, masks, level):
    tumor, tissue = masks
    side = TILE << level
    corners = [(x, y) for x in range(0, 2700 - side, 448) for y in range(0, 2500 - side, 448)]
    x, y = np.array(corners).T
    tissue_share, tumor_share = slide.truth.shares(x, y, side)
    for k, (left, top) in enumerate(corners):
        window = np.s_[top : top + side, left : left + side]
        # tissue of 8 x 8 means is smoother than of pixels: small holes count
        assert tissue_share[k] == pytest.approx(tissue[window].mean(), abs=0.15)
        if tissue[window].mean() > 0.5:
            expected = (tumor & tissue)[window].sum() / tissue[window].sum()
            assert tumor_share[k] == pytest.approx(expected, abs=0.06)


@pytest.mark.parametrize("level", [1, 2])
def test_a_tile_leads_to_tumour_when_a_descendant_is_positive(slide, level):
    side = TILE << level
    x, y = (v.ravel() * side for v in np.mgrid[: 2700 // side, : 2500 // side].astype(np.int64))
    leads = slide.truth.leads_to_tumor(x, y, level)
    for k in range(len(x)):
        descendants = [(x[k] + i, y[k] + j) for i in range(0, side, TILE) for j in range(0, side, TILE)]
        dx, dy = np.array(descendants).T
        tissue, tumor = slide.truth.shares(dx, dy, TILE)
        assert leads[k] == ((tissue >= MIN_TISSUE) & (tumor >= 0.5)).any()
    assert 0 < leads.mean() < 1


@pytest.mark.parametrize("level", LEVELS)
def test_tiles_are_cut_from_their_level_and_balanced_by_a_cap(slide, level):
    tiles = draw_tiles(slide, level, 4, np.random.default_rng(0), overlap=2)
    assert tiles.pixels.shape[1:] == (TILE, TILE, 3)
    assert tiles.pixels.dtype == np.uint8
    assert tiles.leads_to_tumor.sum() <= 4
    assert (~tiles.leads_to_tumor).sum() <= 4
    # no background among them
    assert (tiles.pixels.min(axis=3) < 225).mean(axis=(1, 2)).min() > 0.01


def test_a_slide_without_its_truth_is_refused(tmp_path):
    written = write_slide(SynthSpec(2100, 600), tmp_path / "slide.tif")
    written.truth_path.unlink()
    with pytest.raises(InputError, match="geojson"):
        load_slide(written.path)


def test_a_file_that_is_no_pyramid_is_refused(tmp_path):
    (tmp_path / "slide.tif").write_bytes(b"II*\0nothing")
    with pytest.raises(InputError, match="generate it"):
        load_slide(tmp_path / "slide.tif")
