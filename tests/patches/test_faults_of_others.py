"""Faults that the code of two other systems has, each a test that patches here do not have it.

The systems are the FDA's (Li, Mikailov and Chen 2023: HPC_DPAI, DeepLearningCamelyon_II) and the first layer of CamNet
(PROCESS_L1). Slides are written without loss, so that each pixel is known.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import tifffile

from pyramidai_mpi.analyses.extract import measured
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.patch_order import PatchLabels, PatchLimits
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.folds import fold_tallies
from pyramidai_mpi.patches.lookup import counted_groups, lookup_lines, patch_files
from pyramidai_mpi.patches.tally import tally
from pyramidai_mpi.pyramid.draws import Draw
from pyramidai_mpi.store.patches.record import origin_of
from tests.patch_files import order_of, write_patches_of
from tests.tiffs import STORED_TILE, drop_tile, halved, textured, write_slide
from tests.truth.files import asap, feature, geojson

WIDTH, HEIGHT = 480, 352
"""Of the slide: 7.5 x 5.5 cells of 64 pixels."""


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """Pixels that say where they are: red is the column, green the row, both halved; blue is 7."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.stack([x // 2, y // 2, np.full_like(x, 7)], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, image):
    folder = tmp_path_factory.mktemp("slides")
    write_slide(folder / "a.tif", [image, halved(image)], compression="zlib")
    write_patches_of(folder / "a.tif", folder / "a.patches.h5", order_of(128, 64))
    return folder


def labelled(slide, truth, path, **others):
    order = order_of(96, 64, pixels="none", labels=PatchLabels(truth, **others))
    return write_patches_of(slide, path, order)


# FDA


def test_the_first_row_and_column_are_shifted_by_the_margin_too(folder, image):
    # there: tiles of column or row 0 had their patch begin at 0, so that the heat map was off by 112 pixels
    with open_patches(folder / "a.patches.h5") as patches:
        for record, pixels in zip(patches.table, patches, strict=True):
            x, y = 64 * int(record["col"]), 64 * int(record["row"])
            assert (record["l0_x"], record["l0_y"]) == (x - 32, y - 32)
            # the cell's own corner stands 32 pixels into its patch, whichever it is
            np.testing.assert_array_equal(pixels[32, 32], image[y, x])
        assert {0} < set(patches.table["col"].tolist())


def test_the_last_row_and_column_hold_nothing_but_the_slide_and_white(folder, image):
    # there: the last windows reached one pixel outside
    with open_patches(folder / "a.patches.h5") as patches:
        assert patches.table["col"].max() == 7
        assert patches.table["row"].max() == 5
        for record, pixels in zip(patches.table, patches, strict=True):
            x, y = int(record["l0_x"]), int(record["l0_y"])
            canvas = np.full((128, 128, 3), 255, np.uint8)
            part = image[max(0, y) : max(0, y + 128), max(0, x) : max(0, x + 128)]
            canvas[max(0, -y) : max(0, -y) + part.shape[0], max(0, -x) : max(0, -x) + part.shape[1]] = part
            np.testing.assert_array_equal(pixels, canvas)
            assert record["inside"] == pytest.approx(part.shape[0] * part.shape[1] / 128**2)


def test_a_missing_slide_shifts_no_other(folder, tmp_path):
    # there: files of indices and of dimensions were paired by where they stand in a sorted folder
    for name in ("a", "c"):
        data = (folder / "a.patches.h5").read_bytes()
        (tmp_path / f"{name}.patches.h5").write_bytes(data)
    write_slide(tmp_path / "b.tif", [textured(256, 128)])
    write_patches_of(tmp_path / "b.tif", tmp_path / "b.patches.h5", order_of(64, 64))
    both = list(lookup_lines(counted_groups(patch_files(tmp_path), None)))
    sizes = {}
    for path in patch_files(tmp_path):
        with open_patches(path) as patches:
            sizes[path.name] = (patches.header.slide.l0_size, len(patches), patches.header.slide.name)
    (tmp_path / "a.patches.h5").unlink()
    for path in patch_files(tmp_path):
        with open_patches(path) as patches:
            assert sizes[path.name] == (patches.header.slide.l0_size, len(patches), patches.header.slide.name)
            assert len(patches) == np.prod([-(-side // 64) for side in patches.header.slide.l0_size])
    assert [line.split()[2] for line in both[1:]] == ["a", "b", "c"]


def test_a_cell_that_cannot_be_read_moves_no_other(tmp_path, folder, image):
    # there: results were put together in the order of files, so that a missing group shifted all after it
    slide = write_slide(tmp_path / "a.tif", [image], compression="zlib")
    drop_tile(slide, 1, 1)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(128, 64))
    with open_patches(path) as patches, open_patches(folder / "a.patches.h5") as whole:
        assert 0 < len(patches.failed) == len(whole) - len(patches)
        places = {(int(record["col"]), int(record["row"])): n for n, record in enumerate(whole.table)}
        for record, pixels in zip(patches.table, patches, strict=True):
            np.testing.assert_array_equal(pixels, whole[places[int(record["col"]), int(record["row"])]])


def test_no_pixel_is_stored_four_times(tmp_path, image):
    # there: patches of 448 at a distance of 224 were stored whole, so that each pixel was there four times
    slide = write_slide(tmp_path / "a.tif", [textured(1024, 768)], compression="jpeg")
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(128, 64))
    with open_patches(path) as patches:
        header = patches.header
        assert header.n_tiles == (1024 // STORED_TILE) * (768 // STORED_TILE)
        assert header.tile_bytes < slide.stat().st_size
        assert len(patches) * 128**2 > 3.9 * 1024 * 768


def test_a_file_of_patches_is_read_without_write_access(folder):
    # there: thousands of tasks opened one HDF5 file for writing, with its locking switched off
    path = folder / "a.patches.h5"
    mode, stamp = path.stat().st_mode, path.stat().st_mtime_ns
    path.chmod(0o444)
    try:
        with open_patches(path) as one, open_patches(path) as other:
            np.testing.assert_array_equal(one[3], other[3])
    finally:
        path.chmod(mode)
    assert path.stat().st_mtime_ns == stamp


# CamNet


def test_two_annotated_slides_of_one_centre_keep_their_own_labels(tmp_path):
    # there: every slide of a centre got the annotation that was read last
    truth = tmp_path / "truth"
    truth.mkdir()
    corners = {"patient_020_node_0": (0, 0), "patient_020_node_4": (256, 128), "patient_039_node_1": (128, 64)}
    for name, (x, y) in corners.items():
        write_slide(tmp_path / f"{name}.tif", [textured(512, 384)])
        asap(truth / f"{name}.xml", [("metastases", [(x, y), (x + 128, y), (x + 128, y + 128), (x, y + 128)])])
    hashes = set()
    for name, (x, y) in corners.items():
        assert origin_of(f"{name}.tif")["centre"] == "1"
        path = labelled(tmp_path / f"{name}.tif", truth, tmp_path / f"{name}.patches.h5")
        with open_patches(path) as patches:
            tumor = patches.table[patches.table["label"] == 1]
            cells = {(int(record["cell_l0_x"]), int(record["cell_l0_y"])) for record in tumor}
            assert cells == {(x + dx, y + dy) for dx in (0, 64) for dy in (0, 64)}
            hashes.add(json.loads(patches.header.settings.regions)["truth"])
    assert len(hashes) == 3


def test_the_units_of_a_mask_do_not_matter(tmp_path):
    # there: the mask of tumour was 0 and 255, that of normal tissue 0 and 1, and one pixel in 425 passed as 60 percent
    slide = write_slide(tmp_path / "a.tif", [textured(512, 384)])
    tables = []
    for value in (1, 255):
        mask = np.zeros((384, 512), np.uint8)
        mask[:192, :256] = value
        mask[300, 300] = value  # one pixel of a cell is no tumour
        (tmp_path / str(value)).mkdir()
        tifffile.imwrite(tmp_path / str(value) / "a_mask.tif", mask)
        with open_patches(labelled(slide, tmp_path / str(value), tmp_path / f"{value}.patches.h5")) as patches:
            tables.append(patches.table)
    assert tables[0].tobytes() == tables[1].tobytes()
    one = tables[0][(tables[0]["col"] == 4) & (tables[0]["row"] == 4)]
    assert one["tumor"].tolist() == [np.float32(1 / 64**2)]
    assert one["label"].tolist() == [-1]
    assert (tables[0]["label"] == 1).sum() == 4 * 3


def test_the_share_is_of_the_whole_cell_and_not_of_one_pixel(tmp_path):
    # there: at level 7 a patch of 224 is less than two pixels of the mask, so that its share was all or nothing
    slide = write_slide(tmp_path / "a.tif", [textured(512, 384)])
    geojson(tmp_path / "a.geojson", feature([[[0, 0], [10, 0], [10, 384], [0, 384]]]))
    with open_patches(labelled(slide, tmp_path / "a.geojson", tmp_path / "a.patches.h5")) as patches:
        first = patches.table["tumor"][patches.table["col"] == 0]
        np.testing.assert_allclose(first, 10 / 64, atol=1e-6)


def test_pixels_are_red_green_blue(folder, image):
    # there: OpenCV wrote them as blue, green, red
    with open_patches(folder / "a.patches.h5") as patches:
        inner = next(
            pixels
            for record, pixels in zip(patches.table, patches, strict=True)
            if (record["col"], record["row"]) == (3, 1)
        )
        assert inner[32, 32].tolist() == [3 * 64 // 2, 64 // 2, 7]


@pytest.mark.parametrize(("level", "downsample"), [(0, 1), (1, 2)])
def test_places_are_x_and_y_of_level_0(folder, tmp_path, level, downsample):
    # there: they were row and column of the mask's level
    path = write_patches_of(folder / "a.tif", tmp_path / "a.patches.h5", order_of(32, 32, level=level))
    with open_patches(path) as patches:
        for (l0_x, l0_y), pixels in zip(patches.coords.tolist(), patches, strict=True):
            # red is half of x, green half of y
            assert pixels[0, 0, 0] == pytest.approx(l0_x / 2, abs=downsample / 2)
            assert pixels[0, 0, 1] == pytest.approx(l0_y / 2, abs=downsample / 2)
        assert patches.coords[:, 0].max() > patches.coords[:, 1].max()


def test_no_patch_is_drawn_twice():
    # there: places were drawn with replacement
    index = np.stack(np.meshgrid(np.arange(20), np.arange(20)), axis=-1).reshape(-1, 2)
    for seed in range(20):
        drawn = Draw.among(index, 300, seed, "s").first()
        assert len(np.unique(drawn, axis=0)) == 300


def test_pale_tissue_is_not_white():
    # there: the share of channel values above 200 was compared, and pale eosin has two such channels of three
    eosin = np.full((10, 10, 3), (235, 170, 210), np.uint8)
    assert (eosin > 200).mean() > 0.6
    assert measured(eosin, 200) == (0, 0)
    assert measured(np.full((10, 10, 3), 230, np.uint8), 200) == (1, 0)


def test_what_lies_outside_the_slide_is_neither_white_nor_black(tmp_path):
    # a patch at the edge is no whiter than its tissue
    slide = write_slide(tmp_path / "a.tif", [np.full((96, 96, 3), 120, np.uint8)], compression="zlib")
    order = order_of(192, 64, limits=PatchLimits(max_white=0, max_black=0))
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order)) as patches:
        assert len(patches) == 4
        assert not patches.table["white"].any()
        assert (patches.table["inside"] < 0.3).all()


def test_a_slide_that_nobody_has_annotated_is_not_taken_for_normal(tmp_path):
    # there: whatever was tissue and not in an annotation was normal
    slide = write_slide(tmp_path / "a.tif", [textured(256, 256)])
    (tmp_path / "truth").mkdir()
    with pytest.raises(InputError, match="holds no truth for slide 'a'"):
        labelled(slide, tmp_path / "truth", tmp_path / "a.patches.h5")


def test_no_patient_is_on_both_sides_of_a_split(tmp_path):
    # there: every tenth node validated, so that nodes of one patient trained and validated
    names = [f"patient_{patient:03}_node_{node}" for patient in (20, 21, 39) for node in range(4)]
    for seed, name in enumerate(names):
        slide = write_slide(tmp_path / f"{name}.tif", [textured(128, 128, seed=seed)])
        write_patches_of(slide, tmp_path / f"{name}.patches.h5", order_of(64, 64, pixels="none"))
    tallies = [tally(path) for path in patch_files(tmp_path)]
    for seed in range(5):
        fold_of = dict(zip(names, fold_tallies(tallies, 3, seed), strict=True))
        by_patient = {name[:11]: set() for name in names}
        for name, fold in fold_of.items():
            by_patient[name[:11]].add(fold)
        assert sorted(map(len, by_patient.values())) == [1, 1, 1]
        assert set(fold_of.values()) == {0, 1, 2}
