"""Nuclei from outlines, masks of slides and masks of patches, as windows of labels."""

import json

import numpy as np
import pytest
import tifffile
from skimage.draw import polygon

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.truth.nuclei import open_nuclei, read_outlined_nuclei

SIZE = (400, 300)


def feature(ring, name="tumor nucleus", kind="detection", **others):
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]]]}
    properties = {"objectType": kind, "classification": {"name": name}}
    return {"type": "Feature", "geometry": geometry, "properties": properties, **others}


def circle(x, y, radius, points=40):
    angle = np.linspace(0, 2 * np.pi, points, endpoint=False)
    return [[x + radius * np.cos(a), y + radius * np.sin(a)] for a in angle]


RINGS = [circle(50.3, 40.1, 12), circle(64, 44, 9), circle(198.5, 102.2, 15), circle(5.3, 5.1, 20)]


@pytest.fixture
def folder(tmp_path):
    document = {"type": "FeatureCollection", "features": [feature(ring) for ring in RINGS]}
    (tmp_path / "slide.nuclei.geojson").write_text(json.dumps(document))
    return tmp_path


def drawn(corner, downsample, size):
    """The same by scikit-image's rule of even and odd."""
    labels = np.zeros((size, size), np.int32)
    for number, ring in enumerate(RINGS):
        x, y = ((np.array(ring) - corner) / downsample - 0.5).T
        labels[polygon(y, x, labels.shape)] = number + 1
    return labels


@pytest.mark.parametrize(
    ("corner", "downsample"), [((0, 0), 1.0), ((40, 31), 1.0), ((-10, -20), 2.0), ((183, 90), 0.5)]
)
def test_outlines_are_drawn_as_scikit_image_draws_them(folder, corner, downsample):
    nuclei = open_nuclei(folder, "slide.svs", SIZE, folder / "slide.patches.h5")
    found = nuclei.window(corner, downsample, 64, 0)
    assert found.any()
    np.testing.assert_array_equal(found, drawn(corner, downsample, 64))
    assert set(nuclei.kinds) == {"tumor nucleus"}


def test_a_window_that_touches_none_is_empty(folder):
    nuclei = open_nuclei(folder, "slide.svs", SIZE, folder / "slide.patches.h5")
    assert not nuclei.window((300, 200), 1.0, 64, 0).any()


def test_the_nucleus_of_a_cell_is_taken_and_not_the_cell(tmp_path):
    cell = feature(circle(30, 30, 20), kind="cell")
    cell["nucleusGeometry"] = {"type": "Polygon", "coordinates": [[*circle(30, 30, 5), circle(30, 30, 5)[0]]]}
    drawn_by_hand = feature(circle(90, 90, 6), kind="annotation", name="")
    (tmp_path / "a.geojson").write_text(json.dumps([cell, drawn_by_hand]))
    nuclei = read_outlined_nuclei(tmp_path / "a.geojson")
    areas = [shape.area for shape in nuclei.polygons]
    assert areas == pytest.approx([np.pi * 25, np.pi * 36], rel=0.01)


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize("pixel", [1, 2])
def test_windows_of_a_label_mask_are_cut_out_of_it(tmp_path, tile, pixel):
    rng = np.random.default_rng(3)
    labels = np.kron(rng.integers(0, 5, (30, 40)), np.ones((10, 10), int)).astype(np.uint16)  # 300 x 400
    tifffile.imwrite(tmp_path / "slide.nuclei.tif", labels[::pixel, ::pixel], tile=tile, compression="zlib")
    nuclei = open_nuclei(tmp_path, "slide.svs", SIZE, tmp_path / "slide.patches.h5")
    np.testing.assert_array_equal(nuclei.mask.window((101, 37), 1.0, 90), labels[37:127, 101:191])
    np.testing.assert_array_equal(nuclei.mask.window((100, 40), 2.0, 60), labels[41:161:2, 101:221:2])
    off = nuclei.mask.window((-50, 260), 1.0, 90)
    assert not off[:, :50].any()
    assert not off[40:].any()
    np.testing.assert_array_equal(off[:40, 50:], labels[260:300, :40])


def test_pieces_of_a_mask_of_zero_and_one_are_nuclei(tmp_path):
    mask = np.zeros((300, 400), np.uint8)
    mask[10:20, 10:20] = mask[10:20, 30:40] = 255
    tifffile.imwrite(tmp_path / "slide.tif", mask)
    found = open_nuclei(tmp_path, "slide.svs", SIZE, tmp_path / "p.h5").window((0, 0), 1.0, 50, 0)
    assert np.bincount(found.ravel()).tolist() == [2300, 100, 100]


def test_a_picture_in_the_place_of_a_mask_is_refused(tmp_path):
    grey = np.random.default_rng(2).integers(0, 255, SIZE[::-1], dtype=np.uint8)
    tifffile.imwrite(tmp_path / "slide.tif", grey, tile=(64, 64))
    nuclei = open_nuclei(tmp_path, "slide.svs", SIZE, tmp_path / "slide.patches.h5")
    with pytest.raises(InputError, match=r"slide\.tif: has \d{3,} pieces within 32 x 32 px"):
        nuclei.window((8, 8), 1.0, 32, 0)


def test_masks_of_patches_go_by_their_numbers(tmp_path):
    masks = np.zeros((2, 16, 16), np.uint8)
    masks[1, 3:6, 3:6] = 7
    np.save(tmp_path / "pictures.patches.h5.nuclei.npy", masks)
    nuclei = open_nuclei(tmp_path, "pictures", (0, 0), tmp_path / "pictures.patches.h5")
    assert (nuclei.window((0, 0), 1.0, 16, 1) > 0).sum() == 9
    with pytest.raises(InputError, match=r"no mask of 16 x 16 px for patch 2"):
        nuclei.window((0, 0), 1.0, 16, 2)


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (None, b"", "holds no nuclei of slide.svs"),
        ("slide.nuclei.geojson", b'{"type": "Feature"', "not valid JSON"),
        ("slide.nuclei.geojson", b'{"type": "Feature", "geometry": 3, "properties": {}}', "malformed GeoJSON"),
        ("slide.geojson", b'{"type": "Point", "coordinates": [1, 2]}', "no outline of a nucleus"),
        ("slide.tif", b"II*\0", "not a readable TIFF"),
        ("p.h5.nuclei.npy", b"nothing", "not a readable NumPy array"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(tmp_path, name, content, match):
    if name:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=match):
        open_nuclei(tmp_path, "slide.svs", SIZE, tmp_path / "p.h5")
