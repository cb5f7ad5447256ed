"""What is tissue on drawn and on real thumbnails."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.slides.segmentation import segment_tissue

GLASS, EOSIN, HAEMATOXYLIN, FAT = (243, 242, 244), (205, 130, 175), (115, 75, 150), (236, 226, 234)


def glass(shape=(120, 160), seed=0) -> np.ndarray:
    return grained(np.broadcast_to(np.array(GLASS), (*shape, 3)), 2, seed)


def grained(image: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    return np.clip(image + np.random.default_rng(seed).normal(0, noise, image.shape), 0, 255).astype(np.uint8)


def stained(shape: tuple[int, int], seed: int = 1) -> np.ndarray:
    """Eosin and haematoxylin in patches."""
    rng = np.random.default_rng(seed)
    nuclei = rng.random((-(-shape[0] // 2), -(-shape[1] // 2), 1)) < 0.4
    mix = np.where(nuclei, HAEMATOXYLIN, EOSIN).repeat(2, axis=0).repeat(2, axis=1)[: shape[0], : shape[1]]
    return grained(mix, 6, seed)


def segment(image: np.ndarray) -> np.ndarray:
    return segment_tissue(image, np.ones(image.shape[:2], bool))


@pytest.fixture
def section():
    """A thumbnail with a stained section of 60 x 60 pixels on glass, and where the section is."""
    image, where = glass(), np.zeros((120, 160), bool)
    where[20:80, 30:90] = True
    image[20:80, 30:90] = stained((60, 60))
    return image, where


def test_a_section_on_glass_is_found_and_nothing_else(section):
    image, where = section
    assert (segment(image) == where).mean() > 0.995


@pytest.mark.parametrize("colour", [(255, 255, 255), GLASS, (230, 230, 230), (0, 0, 0)], ids=str)
@pytest.mark.parametrize("noise", [0, 2])
def test_a_slide_without_tissue_has_none(colour, noise):
    image = grained(np.broadcast_to(np.array(colour), (100, 100, 3)), noise)
    assert not segment(image).any()


def test_a_slide_that_is_tissue_all_over_keeps_all_of_it():
    assert segment(stained((100, 100))).all()


@pytest.mark.parametrize("colour", [EOSIN, HAEMATOXYLIN, (160, 120, 80)], ids=["eosin", "haematoxylin", "DAB"])
def test_a_slide_of_a_single_stain_keeps_all_of_it(colour):
    assert segment(grained(np.broadcast_to(np.array(colour), (80, 80, 3)), 3)).all()


@pytest.mark.parametrize(
    "ink",
    [(40, 160, 80), (0, 120, 110), (60, 120, 190), (37, 95, 160), (0, 90, 180), (22, 20, 24), (10, 8, 12)],
    ids=["green", "teal", "light blue", "blue", "strong blue", "black", "deep black"],
)
def test_pen_is_not_tissue(section, ink):
    image, where = section
    image[95:110, 20:140] = grained(np.broadcast_to(np.array(ink), (15, 120, 3)), 3)
    mask = segment(image)
    assert mask[93:112].mean() < 0.01
    assert mask[where].mean() > 0.98


def test_membranes_of_fat_are_not_tissue_beside_a_stained_section(section):
    image, where = section
    image[:, 100:] = grained(np.broadcast_to(np.array(FAT), (120, 60, 3)), 2)
    mask = segment(image)
    assert mask[:, 100:].mean() < 0.02
    assert mask[where].mean() > 0.98


def test_specks_of_dust_go_and_small_holes_close(section):
    image, _ = section
    image[100, 100:107] = EOSIN
    image[40:47, 50:59] = GLASS
    mask = segment(image)
    assert not mask[95:].any()
    assert mask[25:75, 35:85].all()


def test_large_holes_stay_open(section):
    image, _ = section
    image[40:60, 50:70] = GLASS
    assert not segment(image)[42:58, 52:68].any()


def test_what_could_not_be_read_counts_as_tissue(section):
    image, where = section
    readable = np.ones(where.shape, bool)
    readable[90:110, 100:150] = False
    mask = segment_tissue(image, readable)
    assert mask[~readable].all()
    assert (mask == where)[readable].mean() > 0.99


def test_what_could_not_be_read_does_not_move_the_threshold():
    # a pale section, whose saturation lies where a few vivid pixels would raise Otsu's threshold above it
    image = glass()
    image[20:80, 30:90] = grained(np.broadcast_to(np.array((235, 209, 228)), (60, 60, 3)), 1)
    readable = np.ones(image.shape[:2], bool)
    readable[85:, 100:] = False
    image[85:, 100:] = (255, 0, 255)
    assert segment_tissue(image, readable)[22:78, 32:88].mean() > 0.95


def test_a_slide_of_which_nothing_can_be_read_is_all_tissue():
    assert segment_tissue(glass(), np.zeros((120, 160), bool)).all()


def mask_of(path, downsample) -> np.ndarray:
    return segment_tissue(*read_thumbnail(OpenSlideReader(path), downsample))


@pytest.mark.real
def test_lymph_nodes_are_tissue_and_the_fat_around_them_is_not(real_slides):
    mask = mask_of(real_slides / "insidious-lymph-node-metastasis-HE.tif", 32)
    # outlined by eye on the thumbnail at 1/32 (986 x 551)
    large_node, small_node = mask[120:340, 110:370], mask[160:260, 770:860]
    fat = [mask[60:500, 440:570], mask[0:100, 420:600], mask[480:545, 240:400], mask[200:320, 920:980]]
    assert large_node.mean() > 0.95
    assert small_node.mean() > 0.95
    assert max(part.mean() for part in fat) < 0.03
    assert 0.2 < mask.mean() < 0.3


@pytest.mark.real
def test_the_inside_of_a_lymph_node_is_tissue_all_over(real_slides):
    rgb, readable, _ = read_thumbnail(OpenSlideReader(real_slides / "insidious-lymph-node-metastasis-HE.tif"), 32)
    inside = slice(120, 200), slice(110, 200)
    assert segment_tissue(rgb[inside], readable[inside]).mean() > 0.97


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "downsample", "least", "most"),
    [("BS9-HE2.tif", 32, 0.15, 0.30), ("CMU-1-Small-Region.svs", 16, 0.25, 0.45)],
)
def test_mostly_empty_real_slides_have_a_plausible_share_of_tissue(real_slides, name, downsample, least, most):
    assert least < mask_of(real_slides / name, downsample).mean() < most


def test_what_was_left_out_is_background_unless_tissue_encloses_it():
    rgb = np.full((60, 60, 3), 245, np.uint8)
    rgb[10:50, 10:50] = (160, 70, 160)
    left_out = np.zeros((60, 60), bool)
    left_out[20:32, 20:32] = True  # within the tissue; larger than the holes that are filled anyway
    left_out[:, :5] = True  # at the edge of the slide
    left_out[40:60, 30:42] = True  # reaches into the tissue from outside
    rgb[left_out] = 255
    expected = np.zeros((60, 60), bool)
    expected[10:50, 10:50] = True
    expected[40:60, 30:42] = False
    everywhere = np.ones((60, 60), bool)
    np.testing.assert_array_equal(segment_tissue(rgb, everywhere, left_out), expected)
    np.testing.assert_array_equal(segment_tissue(rgb, everywhere, everywhere), ~everywhere)


def test_tissue_that_varies_in_brightness_alone_is_tissue():
    """One hue and saturation, but for the rounding of floats, whose histogram has no room for its bins."""
    brightness = np.random.default_rng(0).integers(50, 100, (64, 64, 1))
    yy, xx = np.mgrid[:64, :64]
    disk = (yy - 32) ** 2 + (xx - 32) ** 2 < 400
    rgb = np.where(disk[..., None], brightness * (2, 1, 2), 255).astype(np.uint8)
    np.testing.assert_array_equal(segment_tissue(rgb, np.ones((64, 64), bool)), disk)
