"""What annotations and lists of places say of cells: shares and labels by shapely's areas, places by hand."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import shapely

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.patch_order import PatchLabels, PatchPlaces
from pyramidai_mpi.base.settings import Regions, SlideInput
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.pyramid.tissue import TissueSource, mask_downsample
from pyramidai_mpi.run.cell_marks import files_of_cells, marks_of
from pyramidai_mpi.run.cells import open_cells, tissue_map_of
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.truth.coverage import UNIT
from pyramidai_mpi.truth.labels import label_levels
from pyramidai_mpi.truth.truth import read_truth
from tests.patch_files import order_of, write_patches_of
from tests.results import result_of, write_file
from tests.tiffs import textured, write_slide
from tests.truth.files import asap, feature, geojson

SIDE = 64
SIZE = (1000, 700)  # of the slide: the last cells reach beyond it
BLOB = shapely.Point(500, 350).buffer(222.2, quad_segs=6).union(shapely.box(700, 500, 1000, 700))


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.tif", [textured(*SIZE)])


def marks(slide, order, mask=None):
    opened = open_cells(SlideInput(slide, regions=Regions(no_tissue=True)), order)
    try:
        step = mask_downsample(opened.pyramid.grid)
        shape = (int(np.ceil(SIZE[1] / step)), int(np.ceil(SIZE[0] / step)))
        mask = np.ones(shape, bool) if mask is None else mask(shape)
        tissue = tissue_map_of(opened, mask, TissueSource("test"))
        return marks_of(opened, order, tissue), tissue
    finally:
        opened.pyramid.reader.close()


def labelled(slide, truth, mask=None, **others):
    return marks(slide, order_of(SIDE + 32, SIDE, labels=PatchLabels(truth, **others)), mask)


def blob_file(folder):
    return asap(folder / "slide.xml", [("Tumor", list(part.exterior.coords)[:-1]) for part in BLOB.geoms])


def test_the_tumour_share_of_a_cell_is_the_area_of_the_intersection(slide, tmp_path):
    found, _ = labelled(slide, blob_file(tmp_path))
    assert found.tumor.shape == found.label.shape == (11, 16)
    for row in range(11):
        for col in range(16):
            # of what a mask pixel covers beyond the slide nothing is tumour, and all counts as tissue
            cell = shapely.box(col * SIDE, row * SIDE, min(1024, (col + 1) * SIDE), min(704, (row + 1) * SIDE))
            share = BLOB.intersection(cell).area / cell.area
            assert found.tumor[row, col] == pytest.approx(share, abs=1e-5)
            if abs(share - 0.5) > 1e-4 and (share == 0 or share > 1e-4):
                assert found.label[row, col] == (1 if share > 0.5 else 0 if share == 0 else -1)


def test_only_tissue_counts(slide, tmp_path):
    def left_half_of_each_cell(shape):
        return np.indices(shape)[1] % 2 == 0

    # a cell is 2 mask pixels wide: tumour on the left one alone is all of its tissue
    strip = asap(tmp_path / "slide.xml", [("Tumor", [(128, 0), (160, 0), (160, 700), (128, 700)])])
    found, _ = labelled(slide, strip, left_half_of_each_cell)
    assert (found.tumor[:10, 2] == 1).all()
    assert (found.label[:10, 2] == 1).all()
    assert not np.delete(found.tumor, 2, axis=1).any()


def test_a_cell_without_tissue_has_neither_share_nor_label(slide, tmp_path):
    found, _ = labelled(slide, blob_file(tmp_path), lambda shape: np.zeros(shape, bool))
    assert np.isnan(found.tumor).all()
    assert (found.label == -1).all()


@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_tumor_is_what_is_positive_where_tiles_are_tuned_and_trained_on(slide, tmp_path, share):
    path = blob_file(tmp_path)
    found, tissue = labelled(slide, path, lambda shape: np.random.default_rng(0).random(shape) < 0.6, tumor_share=share)
    covered = read_truth(path, "slide.tif", SIZE).coverage(tissue.mask.shape, mask_downsample(tissue.grid))
    rows, cols = found.label.shape
    index = np.stack(np.meshgrid(np.arange(cols), np.arange(rows)), axis=-1).reshape(-1, 2)
    (positive,) = label_levels(tissue, covered, [index], share)
    np.testing.assert_array_equal(found.label.ravel() == 1, positive)
    assert covered.max() == UNIT
    assert 5 < positive.sum() < len(positive) / 2


def test_between_the_two_shares_a_label_is_unknown(slide, tmp_path):
    # 16 of 64 columns of pixels of the cells in column 2 are tumour, 48 in column 5
    both = geojson(
        tmp_path / "slide.geojson",
        feature([[[128, 0], [144, 0], [144, 640], [128, 640]]]),
        feature([[[320, 0], [368, 0], [368, 640], [320, 640]]]),
    )
    for shares, expected in (((0.5, 0), (-1, 1)), ((0.5, 0.25), (0, 1)), ((0.25, 0.2), (1, 1)), ((0.8, 0.1), (-1, -1))):
        found, _ = labelled(slide, both, tumor_share=shares[0], normal_share=shares[1])
        assert (found.tumor[3, 2], found.tumor[3, 5], found.tumor[3, 0]) == (0.25, 0.75, 0)
        assert (found.label[3, 2], found.label[3, 5], found.label[3, 0]) == (*expected, 0)


def test_a_slide_that_truth_knows_nothing_of_is_refused_and_one_that_is_listed_has_no_tumour(slide, tmp_path):
    with pytest.raises(InputError, match=r"holds no truth for slide 'slide'.*negative\.txt"):
        labelled(slide, tmp_path)
    (tmp_path / "negative.txt").write_text("slide.tif\n")
    found, _ = labelled(slide, tmp_path)
    assert not found.tumor.any()
    assert (found.label == 0).all()
    order = order_of(labels=PatchLabels(tmp_path))
    before = files_of_cells(slide, order)
    (tmp_path / "negative.txt").write_text("slide.tif\nanother.tif\n")  # says nothing new of this one
    assert files_of_cells(slide, order) == before


def test_the_annotation_is_known_by_its_hash(slide, tmp_path):
    path = blob_file(tmp_path)
    (file,) = files_of_cells(slide, order_of(labels=PatchLabels(tmp_path)))
    assert (file.role, file.name) == ("truth", "slide.xml")
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def at_places(slide, places, mask=None):
    found, _ = marks(slide, order_of(SIDE + 32, SIDE, places=places), mask)
    assert found.tumor is None
    assert found.label is None
    return {(int(col), int(row)) for row, col in np.argwhere(found.wanted)}


@pytest.mark.parametrize(
    "text",
    [
        "l0_x,l0_y\n63.9,0\n64,64\n999,699\n",
        "X;Y;score\n63,9;0;0,5\n64;64;1\n999;699;0,1\n",
        # tiles count by the middle of what of them lies on the slide
        "minx,miny,width,height,prob_tumor,level\n0,0,64,64,0.9,0\n0,0,512,512,0.9,1\n32,32,100,100,0.8,0\n936,600,1000,900,,0\n",
    ],
    ids=["points", "as a spreadsheet saves it", "tiles of an export"],
)
def test_cells_that_hold_a_listed_place_are_wanted(slide, tmp_path, text):
    path = tmp_path / "any.csv"
    path.write_text(text)
    expected = {(0, 0), (1, 1), (15, 10)}
    assert at_places(slide, PatchPlaces(path)) == expected
    (tmp_path / "SLIDE.csv").write_text(text)
    assert at_places(slide, PatchPlaces(tmp_path)) == expected
    (file,) = files_of_cells(slide, order_of(places=PatchPlaces(path)))
    assert (file.role, file.name, file.sha256) == ("places", "any.csv", hashlib.sha256(text.encode()).hexdigest())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "its first line says nothing"),
        ("col,row\n1,2\n", "its first line says col, row; expected columns l0_x"),
        ("l0_x,l0_y\n1,2\n1000,3\n", r"line 3: place \(1000, 3\) lies off the slide of 1000 x 700"),
        ("x,y\n-1,2\n", "line 2: place"),
        ("x,y\n1,much\n", "line 2: y 'much': expected a number"),
        ("x,y\n1\n", "line 2: y '': expected a number"),
        ("minx,miny,width,height\n0,0,0,5\n", "line 2: a tile of 0 x 5 pixels"),
        ("minx,miny,width,height\n2000,0,64,64\n", "lies off the slide"),
    ],
)
def test_lists_that_cannot_be_this_slides_are_refused(slide, tmp_path, text, said):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        at_places(slide, PatchPlaces(path))


def test_a_folder_without_a_list_of_the_slide_is_refused_and_one_of_nothing_has_none(slide, tmp_path):
    with pytest.raises(InputError, match=r"has no slide\.csv with places of slide\.tif"):
        at_places(slide, PatchPlaces(tmp_path))
    with pytest.raises(InputError, match=r"has no slide\.h5"):
        at_places(slide, PatchPlaces(tmp_path, 0.5))
    (tmp_path / "slide.csv").write_text("l0_x,l0_y\n")
    assert at_places(slide, PatchPlaces(tmp_path)) == set()


def test_places_without_tissue_are_said(slide, tmp_path, caplog):
    (tmp_path / "slide.csv").write_text("x,y\n10,10\n500,500\n")
    at_places(slide, PatchPlaces(tmp_path), lambda shape: np.indices(shape)[0] > 4)
    assert "1 of 2 places lie in cells without enough tissue" in caplog.text


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A slide of 1440 x 1120 with a result of tiles of 64 px, and the result."""
    folder = tmp_path_factory.mktemp("scored")
    slide = write_slide(folder / "slide.tif", [textured(1440, 1120)])
    result = result_of()
    result = replace(result, slide=replace(result.slide, quickhash=quickhash(slide)))
    return slide, write_file(folder / "slide.h5", result), result


def test_tiles_of_a_result_above_a_score_are_places(scored):
    slide, path, result = scored
    tiles = result.tree.levels[0]
    score = np.nan_to_num(tiles.probability[:, 1], nan=-1)
    above = float(np.median(score))
    expected = {tuple(tile) for tile in tiles.index[score > above].tolist()}
    assert 5 < len(expected) < len(score)
    for places in (PatchPlaces(path, above), PatchPlaces(path.parent, above)):
        opened = open_cells(SlideInput(slide), order := order_of(SIDE + 32, SIDE, places=places))
        shape = (35, 45)
        found = marks_of(opened, order, tissue_map_of(opened, np.ones(shape, bool), TissueSource("test")))
        opened.pyramid.reader.close()
        assert {(int(col), int(row)) for row, col in np.argwhere(found.wanted)} == expected
    (file,) = files_of_cells(slide, order)
    assert (file.role, file.sha256) == ("places", read_digest(path))


def test_the_result_of_another_slide_is_refused(slide, scored):
    with pytest.raises(InputError, match=r"is the result of another slide, slide\.tif"):
        at_places(slide, PatchPlaces(scored[1], 0.5))


def test_hashes_go_into_the_settings(slide, tmp_path):
    blob_file(tmp_path)
    (tmp_path / "slide.csv").write_text("x,y\n500,350\n1,1\n")
    order = order_of(
        SIDE + 32, SIDE, labels=PatchLabels(tmp_path, only="tumor"), places=PatchPlaces(tmp_path), pixels="none"
    )
    with open_patches(write_patches_of(slide, tmp_path / "a.patches.h5", order)) as patches:
        settings = patches.header.settings
        assert set(json.loads(settings.regions)) == {"truth", "places"}
        assert (settings.label_names, settings.only_label) == (("normal", "tumor"), "tumor")
        assert patches.table[["col", "row", "label", "tumor"]].tolist() == [(7, 5, 1, 1.0)]
        assert patches.check() == []
