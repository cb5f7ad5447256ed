"""What is tissue on drawn and on real thumbnails."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import cKDTree

from pyramidai_mpi.slides.pyramid import read_thumbnail
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.slides.segmentation import Segmentation, tissue_of_slide
from tests.tiffs import write_slide

GLASS, EOSIN, HAEMATOXYLIN = (243, 242, 244), (205, 130, 175), (115, 75, 150)
METHODS = ["od", "hsv-otsu"]


def segment_tissue(*thumbnail: np.ndarray, method: str = "od") -> np.ndarray:
    return Segmentation(method).segment(*thumbnail)


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


def segment(image: np.ndarray, method: str = "od") -> np.ndarray:
    return segment_tissue(image, np.ones(image.shape[:2], bool), method=method)


@pytest.fixture
def section():
    """A thumbnail with a stained section of 60 x 60 pixels on glass, and where the section is."""
    image, where = glass(), np.zeros((120, 160), bool)
    where[20:80, 30:90] = True
    image[20:80, 30:90] = stained((60, 60))
    return image, where


@pytest.mark.parametrize("method", METHODS)
def test_a_section_on_glass_is_found_and_nothing_else(section, method):
    image, where = section
    mask = segment(image, method)
    assert mask[where].mean() > 0.995
    assert not mask[~ndimage.binary_dilation(where, iterations=4)].any()
    assert np.count_nonzero(mask & ~where) < 0.12 * np.count_nonzero(where)


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
    [
        *[(40, 160, 80), (0, 120, 110), (60, 120, 190), (37, 95, 160), (0, 90, 180), (22, 20, 24), (10, 8, 12)],
        *[(205, 25, 45), (110, 40, 150), (128, 0, 128)],
    ],
    ids=["green", "teal", "light blue", "blue", "strong blue", "black", "deep black", "red", "violet", "purple"],
)
def test_pen_is_not_tissue(section, ink):
    image, where = section
    image[95:110, 20:140] = grained(np.broadcast_to(np.array(ink), (15, 120, 3)), 3)
    mask = segment(image)
    assert mask[93:112].mean() < 0.01
    assert mask[where].mean() > 0.98


@pytest.mark.parametrize(
    "light", [(1, 0.93, 0.78), (0.85, 0.8, 0.74), (0.97, 1, 0.94)], ids=["yellowed", "warm", "greenish"]
)
def test_the_colour_of_the_light_makes_no_tissue_and_hides_none(section, light):
    image, where = section
    mask = segment((image * np.array(light)).astype(np.uint8))
    assert mask[where].mean() > 0.99
    assert not mask[~ndimage.binary_dilation(where, iterations=4)].any()
    assert not segment((glass() * np.array(light)).astype(np.uint8)).any()


@pytest.mark.parametrize(
    "colour", [(60, 130, 110), (150, 110, 60), (90, 90, 90)], ids=["light green", "brown", "silver"]
)
def test_tissue_of_any_stain_is_found(section, colour):
    image, where = section
    fibres = np.random.default_rng(5).random((60, 60, 1)) ** 2
    image[20:80, 30:90] = grained(np.array(GLASS) * (1 - fibres) + np.array(colour) * fibres, 3)
    assert segment(image)[where].mean() > 0.97


def test_a_dark_section_does_not_hide_a_pale_one():
    image = glass((160, 320))
    image[20:140, 20:140] = stained((120, 120))
    pale = np.array(GLASS) - (np.array(GLASS) - stained((120, 120)).astype(float)) / 6
    image[20:140, 180:300] = grained(pale, 1)
    mask = segment(image)
    assert mask[20:140, 20:140].mean() > 0.98
    assert mask[20:140, 180:300].mean() > 0.98


def test_even_greys_are_no_tissue(section):
    image, where = section
    image[95:118, 5:155] = grained(np.full((23, 150, 3), 215), 2)
    mask = segment(image)
    assert not mask[93:].any()
    assert mask[where].mean() > 0.99


def test_black_ground_beside_glass_is_no_tissue(section):
    image, where = section
    image[:, 120:] = 0
    mask = segment(image)
    assert not mask[:, 120:].any()
    assert mask[where].mean() > 0.99


def fat(shape: tuple[int, int], seed: int = 3) -> np.ndarray:
    """A net of pale membranes around round cells of about 80 µm at 8 µm per pixel."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0, 1, (shape[0] * shape[1] // 90, 2)) * shape
    near, next_near = cKDTree(centres).query(np.indices(shape).reshape(2, -1).T, k=2)[0].T
    membrane = (next_near - near < 1.2).reshape(shape)[..., None]
    return grained(np.where(membrane, (212, 178, 203), GLASS), 2, seed)


def test_wide_fat_is_left_out_beside_a_stained_section_and_small_pieces_of_it_are_not():
    image = glass((400, 700))
    image[20:380, 20:120] = stained((360, 100))
    image[10:390, 200:690] = fat((380, 490))
    mask = segment(image)
    assert mask[20:380, 20:120].mean() > 0.98
    assert mask[10:390, 200:690].mean() < 0.1
    image[:, 250:], image[200:, 200:] = glass((400, 450)), glass((200, 500))
    assert segment(image)[20:190, 205:245].mean() > 0.3


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
    assert mask[where].mean() > 0.99
    assert not mask[~ndimage.binary_dilation(where | ~readable, iterations=4)].any()


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
    # septa and vessels within it are tissue
    assert max(part.mean() for part in fat) < 0.2
    assert 0.25 < mask.mean() < 0.4


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
    rgb[10:50, 10:50] = stained((40, 40))
    left_out = np.zeros((60, 60), bool)
    left_out[20:32, 20:32] = True  # within the tissue; larger than the holes that are filled anyway
    left_out[:, :5] = True  # at the edge of the slide
    left_out[40:60, 30:42] = True  # reaches into the tissue from outside
    rgb[left_out] = 255
    expected = np.zeros((60, 60), bool)
    expected[10:50, 10:50] = True
    expected[40:60, 30:42] = False
    everywhere = np.ones((60, 60), bool)
    mask = segment_tissue(rgb, everywhere, left_out)
    assert mask[20:32, 20:32].all()
    assert not mask[40:60, 30:42].any()
    assert not mask[:, :5].any()
    assert mask[expected].mean() > 0.99
    np.testing.assert_array_equal(segment_tissue(rgb, everywhere, everywhere), ~everywhere)


def test_an_image_on_dark_ground_is_told_of(tmp_path, caplog):
    image = glass((512, 512))
    image[100:300, 100:300] = stained((200, 200))
    for name, pixels in {"bright.tif": image, "dark.tif": 255 - image}.items():
        reader = OpenSlideReader(write_slide(tmp_path / name, [pixels], mpp=8.0, compression="zlib"))
        tissue_of_slide(reader, Segmentation(), 1.0, 8.0)
        reader.close()
        assert (f"{name}: most of it is dark" in caplog.text) == (name == "dark.tif")


NAMES = ["anthracosis", "breast-lobular-carcinoma", "BS25-synaptophysin", "BS25-HE"]


@pytest.fixture(scope="module")
def found(real_slides):
    """Thumbnail, reference and mask of each real thumbnail, at 8 µm per pixel."""
    folder, images = real_slides.parent / "tissue", {}
    if not folder.is_dir():
        pytest.skip(f"the real thumbnails are not here: {folder} is missing")
    for name in NAMES:
        rgb = np.asarray(Image.open(folder / f"{name}.jpg").convert("RGB"))
        images[name] = rgb, np.asarray(Image.open(folder / f"{name}.reference.png")), segment(rgb)
    return images


def tiles(mask: np.ndarray, side: int) -> np.ndarray:
    """Share of a mask in tiles of `side` pixels, (rows, side, cols, side) with the share in each pixel."""
    rows, cols = (-(-extent // side) for extent in mask.shape)
    padded = np.zeros((rows * side, cols * side))
    padded[: mask.shape[0], : mask.shape[1]] = mask
    share = padded.reshape(rows, side, cols, side).mean(axis=(1, 3))
    return share.repeat(side, 0).repeat(side, 1)[: mask.shape[0], : mask.shape[1]]


@pytest.mark.real
@pytest.mark.parametrize("name", NAMES)
def test_of_real_tissue_nearly_all_is_looked_at_and_of_glass_nothing(found, name):
    _, reference, mask = found[name]
    looked_at = (tiles(mask, 28) >= 0.05) & (tiles(mask, 7) > 0)  # roots, and in them tiles of level 0
    assert looked_at[reference == 255].mean() >= 0.995
    assert looked_at[reference == 0].mean() <= 0.001


@pytest.mark.real
def test_of_wide_fat_hardly_a_fifth_is_tissue(found):
    _, reference, mask = found["anthracosis"]
    assert mask[reference == 128].mean() <= 0.2


@pytest.mark.real
@pytest.mark.parametrize(
    "ink", [(205, 25, 45), (110, 40, 150), (30, 140, 70), (30, 60, 160), (25, 22, 28)],
    ids=["red", "violet", "green", "blue", "black"],
)  # fmt: skip
@pytest.mark.parametrize("is_laid_over", [False, True])
def test_no_pen_on_a_real_thumbnail_becomes_a_root(found, ink, is_laid_over):
    rgb, _, mask = found["BS25-synaptophysin"]
    stroke = Image.new("L", (2 * rgb.shape[1], 2 * rgb.shape[0]), 0)
    ImageDraw.Draw(stroke).line([(60, 900), (500, 1700), (1000, 1950)], 255, 80)
    share = np.asarray(stroke.resize(rgb.shape[1::-1], Image.Resampling.BILINEAR))[..., None] / 255
    inked = rgb * (np.array(ink) / 250) if is_laid_over else np.array(ink)
    drawn = (rgb * (1 - share) + inked * share).astype(np.uint8)
    new_roots = (tiles(segment(drawn), 28) >= 0.05) & (tiles(mask, 28) < 0.05)
    assert not new_roots.any()


def test_tissue_that_varies_in_brightness_alone_is_tissue():
    """One hue and saturation, but for the rounding of floats, whose histogram has no room for its bins."""
    brightness = np.random.default_rng(0).integers(50, 100, (64, 64, 1))
    yy, xx = np.mgrid[:64, :64]
    disk = (yy - 32) ** 2 + (xx - 32) ** 2 < 400
    rgb = np.where(disk[..., None], brightness * (2, 1, 2), 255).astype(np.uint8)
    np.testing.assert_array_equal(segment(rgb, "hsv-otsu"), disk)
    assert segment(rgb)[disk].mean() > 0.99
