"""Regions of interest, exclusions and given masks: which mask pixels are left."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import shapely
import tifffile
from PIL import Image

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.settings import Regions, SlideInput
from pyramidai_mpi.pyramid.tissue import RegionFile, TissueSource
from pyramidai_mpi.run.regions import RegionFiles
from pyramidai_mpi.slides.readers.base import SlideInfo
from pyramidai_mpi.store.patches.record import listed_table
from pyramidai_mpi.synth import SynthSpec, write_slide
from tests.patch_files import order_of, write_patches_of
from tests.truth.files import asap, feature, geojson

if TYPE_CHECKING:
    from pyramidai_mpi.store.patches.writer import PatchContent

SIZE = (1000, 700)
STEP = 32.0
SHAPE = (22, 32)  # of the mask: rows and columns rounded up
TRIANGLE = [[100, 50], [900, 300], [333, 650]]
CELLS = [[shapely.box(c * STEP, r * STEP, (c + 1) * STEP, (r + 1) * STEP) for c in range(32)] for r in range(22)]


def info(path: Path = Path("slide.tif"), bounds: tuple[int, int] = (0, 0)) -> SlideInfo:
    return SlideInfo(path, "generic-tiff", SIZE, (SIZE,), (1.0,), (True,), 0.25, bounds)


def patchy() -> np.ndarray:
    return np.random.default_rng(1).random(SHAPE) < 0.7


def mask_of(regions: Regions, *, bounds: tuple[int, int] = (0, 0), slide: Path = Path("slide.tif")) -> np.ndarray:
    files = RegionFiles.find(SlideInput(slide, regions=regions))
    return files.mask(info(slide, bounds), STEP, patchy)


def touched(shape: shapely.Geometry) -> np.ndarray:
    """Cells that share area with a shape, by shapely, one by one."""
    return np.array([[cell.intersection(shape).area > 0 for cell in row] for row in CELLS])


def test_a_region_of_interest_keeps_the_tissue_that_it_touches(tmp_path: Path) -> None:
    mask = mask_of(Regions(roi=geojson(tmp_path / "any name.geojson", feature([TRIANGLE]))))
    assert np.array_equal(mask, patchy() & touched(shapely.Polygon(TRIANGLE)))
    assert 0 < mask.sum() < patchy().sum()


def test_classes_of_outlines_do_not_count_and_holes_are_holes(tmp_path: Path) -> None:
    hole = [[300, 200], [500, 200], [500, 400], [300, 400]]
    two = [feature([TRIANGLE, hole], "Stroma"), feature([[[950, 10], [990, 10], [990, 40]]], None)]
    shape = shapely.union(shapely.Polygon(TRIANGLE, [hole]), shapely.Polygon([(950, 10), (990, 10), (990, 40)]))
    assert np.array_equal(mask_of(Regions(roi=geojson(tmp_path / "roi.json", *two))), patchy() & touched(shape))


def test_what_is_excluded_goes_with_every_cell_that_it_touches_and_wins_over_the_region(tmp_path: Path) -> None:
    pen = asap(tmp_path / "pen.xml", [("", [(0, 0), (500, 0), (500, 330), (0, 330)])])
    roi = geojson(tmp_path / "roi.json", feature([TRIANGLE]))
    both = mask_of(Regions(roi=roi, exclude=pen))
    expected = patchy() & touched(shapely.Polygon(TRIANGLE)) & ~touched(shapely.box(0, 0, 500, 330))
    assert np.array_equal(both, expected)
    assert both.any()


def test_an_outline_along_the_mask_grid_takes_no_further_cell(tmp_path: Path) -> None:
    square = [[64, 96], [160, 96], [160, 192], [64, 192]]
    mask = mask_of(Regions(roi=geojson(tmp_path / "roi.json", feature([square])), no_tissue=True))
    expected = np.zeros(SHAPE, bool)
    expected[3:6, 2:5] = True
    assert np.array_equal(mask, expected)


def test_excluding_nothing_is_no_mistake(tmp_path: Path) -> None:
    assert np.array_equal(mask_of(Regions(exclude=geojson(tmp_path / "pen.json"))), patchy())


def test_geojson_lies_where_qupath_shows_it_on_a_slide_with_bounds(tmp_path: Path) -> None:
    square = [[0, 0], [64, 0], [64, 64], [0, 64]]
    moved = mask_of(Regions(roi=geojson(tmp_path / "roi.json", feature([square])), no_tissue=True), bounds=(320, 96))
    assert np.argwhere(moved).tolist() == [[3, 10], [3, 11], [4, 10], [4, 11]]
    in_pixels = mask_of(Regions(roi=asap(tmp_path / "roi.xml", [("", square)]), no_tissue=True), bounds=(320, 96))
    assert np.argwhere(in_pixels).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_without_a_tissue_step_all_of_the_slide_is_tissue() -> None:
    assert mask_of(Regions(no_tissue=True)).shape == SHAPE
    assert mask_of(Regions(no_tissue=True)).all()


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("downsample", [1, 4, 8, 50])
def test_a_given_mask_counts_where_it_covers_half_of_a_cell(tmp_path: Path, ending: str, downsample: int) -> None:
    size = (-(-SIZE[1] // downsample), -(-SIZE[0] // downsample))
    given = np.kron(np.random.default_rng(downsample).random((7, 10)) < 0.5, np.ones((100, 100), bool))
    given = given[::downsample, ::downsample][: size[0], : size[1]].astype(np.uint8) * 3
    path = tmp_path / f"mask.{ending}"
    if ending == "png":
        Image.fromarray(given).save(path)
    else:
        tifffile.imwrite(path, given)
    mask = mask_of(Regions(tissue_mask=path))
    # enlarged to level-0 pixels, whatever is beyond the slide cut off
    pixels = np.kron(given > 0, np.ones((downsample, downsample)))[: SIZE[1], : SIZE[0]]
    for row in range(SHAPE[0]):
        for col in range(SHAPE[1]):
            share = pixels[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32].mean()
            assert mask[row, col] == (share >= 0.5), (row, col, share)
    assert 0 < mask.mean() < 1


@pytest.mark.parametrize("stride", [64, 50])
def test_the_cells_of_a_file_of_patches_are_tissue(tmp_path: Path, stride: int) -> None:
    slide = tmp_path / "slide.tif"
    write_slide(SynthSpec(*SIZE, seed=1), slide)
    made = write_patches_of(slide, tmp_path / "slide.patches.h5", order_of(96, stride), patchy())
    with h5py.File(made) as file:
        cells = file["patches/cell_coords"][...]
    pixels = np.zeros((SIZE[1], SIZE[0]), bool)
    for x, y in cells:
        pixels[y : y + stride, x : x + stride] = True
    by_name, in_folder = (mask_of(Regions(tissue_mask=path), slide=slide) for path in (made, tmp_path))
    own = mask_of(Regions(tissue_mask=tmp_path), slide=made)
    for row in range(SHAPE[0]):
        for col in range(SHAPE[1]):
            share = pixels[row * 32 : row * 32 + 32, col * 32 : col * 32 + 32].mean()
            assert by_name[row, col] == (share >= 0.5), (row, col, share)
    assert 0 < by_name.mean() < 1
    assert np.array_equal(by_name, in_folder)
    assert np.array_equal(by_name, own)
    Image.fromarray(np.full((70, 100), 255, np.uint8)).save(tmp_path / "slide.png")
    assert mask_of(Regions(tissue_mask=tmp_path), slide=slide).all()  # a mask goes first


def test_of_a_palette_the_numbers_count_and_not_the_colours(tmp_path: Path) -> None:
    labels = Image.fromarray(np.repeat(np.array([[0, 1], [2, 0]], np.uint8), 50, 0).repeat(50, 1)[:70])
    labels.putpalette([255, 255, 255, 0, 0, 0, 0, 0, 0])
    labels.save(tmp_path / "mask.png")
    mask = mask_of(Regions(tissue_mask=tmp_path / "mask.png"))
    assert mask[0, -1]
    assert mask[-1, 0]
    assert not mask[0, 0]
    assert not mask[-1, -1]


def test_in_a_folder_the_file_is_found_by_the_slides_name(tmp_path: Path) -> None:
    slide = tmp_path / "Case 1.a.tif"
    slide.write_bytes(b"the slide")
    geojson(tmp_path / "case 1.a.GEOJSON", feature([TRIANGLE]))
    geojson(tmp_path / "case 2.geojson")
    Image.fromarray(np.full((70, 100), 255, np.uint8)).save(tmp_path / "Case 1.a_mask.png")
    mask = mask_of(Regions(roi=tmp_path, tissue_mask=tmp_path), slide=slide)
    assert np.array_equal(mask, touched(shapely.Polygon(TRIANGLE)))


def test_what_had_a_say_is_told_with_its_hash(tmp_path: Path) -> None:
    roi, pen = geojson(tmp_path / "roi.json", feature([TRIANGLE])), geojson(tmp_path / "pen.json")
    source = RegionFiles.find(SlideInput(Path("s.tif"), regions=Regions(roi, pen, no_tissue=True))).source()
    sums = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (roi, pen)]
    assert source.method == "none, within roi, without excluded"
    assert source.files == (RegionFile("roi", "roi.json", sums[0]), RegionFile("exclude", "pen.json", sums[1]))
    assert TissueSource.from_json(source.to_json()) == source
    assert source.facts() == {
        "roi_file": "roi.json",
        "roi_file_sha256": sums[0],
        "exclude_file": "pen.json",
        "exclude_file_sha256": sums[1],
    }


def somewhere(content: PatchContent) -> PatchContent:
    """The same patches, as if a list had said where they are."""
    settings = replace(content.settings, places="listed")
    corners = np.stack([content.patches["l0_x"], content.patches["l0_y"]], axis=1)
    return replace(content, settings=settings, patches=listed_table(settings, content.slide.l0_size, corners))


def bad_files(folder: Path) -> dict[str, Regions]:
    """Regions that cannot be used, by what the message must say."""
    far = [[x + 5000, y] for x, y in TRIANGLE]
    bow = [[0, 0], [900, 600], [900, 0], [0, 600]]
    (folder / "text.json").write_text("no JSON")
    (folder / "text.png").write_text("no PNG")
    (folder / "half.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    (folder / "other.json").write_text('{"kind": "x"}')
    (folder / "empty").mkdir()
    Image.fromarray(np.zeros((100, 100), np.uint8)).save(folder / "square.png")
    Image.fromarray(np.zeros((70, 100, 3), np.uint8)).save(folder / "colours.png")
    tifffile.imwrite(folder / "colours.tif", np.zeros((70, 100, 3), np.uint8), photometric="rgb")
    tifffile.imwrite(folder / "square.tif", np.zeros((100, 100), np.uint8))
    write_slide(SynthSpec(600, 700, seed=1), folder / "narrow.tif")
    narrow = write_patches_of(folder / "narrow.tif", folder / "narrow.patches.h5", order_of())
    listed = write_patches_of(folder / "narrow.tif", folder / "listed.patches.h5", order_of(), change=somewhere)
    point = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [5, 5]}, "properties": {}}
    return {
        "100 % of the outlined area lies outside the slide of 1000 x 700": Regions(
            roi=geojson(folder / "far.json", feature([far]))
        ),
        "far2.json: 100 % of the outlined area": Regions(exclude=geojson(folder / "far2.json", feature([far]))),
        "none.json: outlines no area": Regions(roi=geojson(folder / "none.json")),
        "point.json: outlines no area": Regions(roi=geojson(folder / "point.json", point)),
        "crosses itself": Regions(roi=geojson(folder / "bow.json", feature([bow]))),
        "text.json: not valid JSON": Regions(roi=folder / "text.json"),
        "other.json: malformed GeoJSON": Regions(exclude=folder / "other.json"),
        "missing.json: cannot be read": Regions(roi=folder / "missing.json"),
        "missing.png: cannot be read": Regions(tissue_mask=folder / "missing.png"),
        "text.png: not a readable TIFF": Regions(tissue_mask=folder / "text.png"),
        "half.png: not a readable PNG": Regions(tissue_mask=folder / "half.png"),
        "square.png: is 100 x 100 px, which is no reduction": Regions(tissue_mask=folder / "square.png"),
        "square.tif: is 100 x 100 px, which is no reduction": Regions(tissue_mask=folder / "square.tif"),
        "colours.png: is a picture in colours": Regions(tissue_mask=folder / "colours.png"),
        "colours.tif: is an image of 3 channels": Regions(tissue_mask=folder / "colours.tif"),
        "narrow.patches.h5: has patches of narrow.tif, of 600 x 700 px": Regions(tissue_mask=narrow),
        "listed.patches.h5: its patches are no cells of a grid": Regions(tissue_mask=listed),
        "empty: has no file for slide.tif": Regions(roi=folder / "empty"),
    }


def test_bad_regions_are_refused_in_one_line_that_says_why(tmp_path: Path) -> None:
    for message, regions in bad_files(tmp_path).items():
        with pytest.raises(InputError) as caught:
            mask_of(regions)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_two_files_for_one_slide_are_refused(tmp_path: Path) -> None:
    slide = tmp_path / "slide.svs"
    slide.touch()
    geojson(tmp_path / "slide.json")
    asap(tmp_path / "slide.xml", [])
    with pytest.raises(InputError, match=r"slide\.json and slide\.xml are both named like slide\.svs"):
        mask_of(Regions(roi=tmp_path), slide=slide)


def test_options_that_cannot_be_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--no-tissue and --tissue-mask"):
        Regions(tissue_mask=tmp_path / "mask.png", no_tissue=True)
    with pytest.raises(UsageError, match="--levels scale and --mpp"):
        SlideInput(Path("s"), mpp=0.5, levels="scale")
    with pytest.raises(UsageError, match=r"--tissue-mask .*m\.png: is no folder, for 2 slides"):
        Regions(tissue_mask=tmp_path / "m.png").check_for_several(2)
    Regions(tissue_mask=tmp_path / "m.png").check_for_several(1)
    Regions(roi=tmp_path).check_for_several(2)
