"""What is on the slide: blocks that join, nuclei of real size, tumour where the truth says."""

import numpy as np
import pytest
from skimage.measure import label, points_in_poly, regionprops

from pyramidai_mpi.synth import SynthSpec
from pyramidai_mpi.synth.plan import draw_plan
from pyramidai_mpi.synth.render import Painter
from pyramidai_mpi.synth.spec import BLOCK
from pyramidai_mpi.synth.sprites import Nucleus, draw_sprites

SPEC = SynthSpec(3072, 3072, seed=11, tumor_share=0.3)


@pytest.fixture(scope="module")
def plan():
    return draw_plan(SPEC)


@pytest.fixture(scope="module")
def painter(plan):
    return Painter(plan)


def blocks():
    side = SPEC.width // BLOCK
    return [(row, col) for row in range(side) for col in range(side)]


def nuclei(painter):
    return np.concatenate([painter._nuclei(*block) for block in blocks()])


@pytest.fixture(scope="module")
def image(painter):
    out = np.empty((SPEC.height, SPEC.width, 3), np.uint8)
    for row, col in blocks():
        block = painter.paint(row, col)
        out[row * BLOCK : (row + 1) * BLOCK, col * BLOCK : (col + 1) * BLOCK] = (
            painter.glass if block is None else block
        )
    return out


def test_a_block_is_the_same_whatever_was_painted_before(plan, image):
    fresh = Painter(plan)
    for row, col in [(3, 2), (2, 3), (3, 2)]:
        expected = image[row * BLOCK : (row + 1) * BLOCK, col * BLOCK : (col + 1) * BLOCK]
        np.testing.assert_array_equal(fresh.paint(row, col), expected)


def test_blocks_join_without_a_seam(image):
    across = np.abs(np.diff(image.astype(int), axis=1)).mean(axis=(0, 2))
    at_seams = across[BLOCK - 1 :: BLOCK]
    assert at_seams.mean() == pytest.approx(np.median(across), rel=0.15)


def test_tissue_lies_on_glass(image, painter):
    glass = (image == painter.glass).all(axis=2)
    assert 0.1 < glass.mean() < 0.9
    assert painter.glass.min() > 235


@pytest.mark.parametrize("mpp", [0.25, 0.5])
@pytest.mark.parametrize(
    ("kind", "least", "most"),
    [
        (Nucleus.LYMPHOCYTE, 5, 8),
        (Nucleus.EPITHELIAL, 5.5, 9),
        (Nucleus.BLAST, 6.5, 10),
        (Nucleus.TUMOR, 6.2, 14),
        (Nucleus.SPINDLE, 4, 9.5),
    ],
)
def test_nuclei_have_their_size_in_um_at_any_spacing(mpp, kind, least, most):
    for picture in draw_sprites(1, mpp).pictures[kind]:
        diameter = 2 * np.sqrt((picture > 0.2 * picture.max()).sum() / np.pi) * mpp
        assert least - mpp <= diameter <= most + mpp


def test_nuclei_found_in_the_picture_are_of_nuclear_size(image):
    # nuclei absorb red, which eosin lets through
    dark = image[..., 0] < 0.62 * np.median(image[..., 0][image[..., 1] < 215])
    diameters = [
        2 * np.sqrt(found.area / np.pi) * SPEC.mpp
        for found in regionprops(label(dark))
        if found.area > 60 and found.solidity > 0.9
    ]
    assert len(diameters) > 300
    assert 4.5 < np.median(diameters) < 10


def test_there_are_as_many_nuclei_as_in_tissue(painter, image):
    tissue_mm2 = (image.min(axis=2) < 222).sum() * (SPEC.mpp / 1000) ** 2
    # loose stroma has about 1500 per mm2, a sheet of lymphocytes about 18000
    assert 2500 < len(nuclei(painter)) / tissue_mm2 < 16000


def test_tumour_nuclei_lie_inside_the_outlines_and_fill_them(painter, plan):
    found = nuclei(painter)
    tumor = found[found["kind"] == Nucleus.TUMOR]
    points = np.column_stack([tumor["l0_x"], tumor["l0_y"]]).astype(float)
    inside = np.zeros(len(points), bool)
    for region in plan.regions:
        inside |= points_in_poly(points, np.array(region.outline))
    assert len(points) > 200
    # the outline is sampled every 2 µm
    assert inside.mean() > 0.98


def test_the_share_of_tumour_is_about_what_was_asked(painter):
    tissue = tumor = 0.0
    for block in blocks():
        cover, mask = painter.truth(*block)
        tissue += cover[:-1, :-1].sum()
        tumor += (cover * mask)[:-1, :-1].sum()
    assert tumor / tissue == pytest.approx(0.3, abs=0.06)


def test_stain_differs_between_slides_and_not_by_tumour():
    stains = [
        draw_plan(SynthSpec(600, 600, seed=seed, tumor_share=share)).stain for seed, share in ((1, 0), (1, 0.5), (2, 0))
    ]
    np.testing.assert_array_equal(stains[0].eosin, stains[1].eosin)
    assert np.abs(stains[0].eosin - stains[2].eosin).max() > 0.01
