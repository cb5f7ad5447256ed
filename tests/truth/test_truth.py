"""Annotation files of every format give the area that they outline; what cannot be used is refused in one line."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import tifffile

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.synth.polygons import to_geojson
from pyramidai_mpi.synth.spec import Region
from pyramidai_mpi.truth.outlines import ClassNames
from pyramidai_mpi.truth.truth import TruthOptions, find_annotation, read_truth
from tests.truth.files import HOLE, SQUARE, asap, feature, geojson

SIZE = (100, 100)
LEFT = [[0, 0], [20, 0], [20, 20], [0, 20]]
"""Beside `SQUARE` for the most part: 100 px of it lie inside."""


def area_of(path, slide="slide.tif", **options) -> float:
    return read_truth(path, slide, SIZE, TruthOptions(**options)).tumor.shape.area


@pytest.mark.parametrize(
    ("groups", "area"),
    [
        (("_0", "_2"), 6400 - 400),
        (("_1", "_2"), 6400 - 400),
        (("Tumor", "Exclusion"), 6400 - 400),
        (("metastases", "normal"), 6400 - 400),
        (("_0", "_1"), 6400),
        (("_0", "Stroma"), 6400),
    ],
    ids=str,
)
def test_asap_groups_say_what_is_tumour_and_what_is_a_hole_in_it(tmp_path, groups, area) -> None:
    path = asap(tmp_path / "slide.xml", list(zip(groups, [SQUARE, HOLE], strict=True)))
    assert area_of(path) == area


def test_an_asap_group_means_what_the_group_that_it_is_part_of_means(tmp_path) -> None:
    groups = '<Group Name="ITC" PartOfGroup="Tumor" /><Group Name="Tumor" PartOfGroup="None" />'
    assert area_of(asap(tmp_path / "slide.xml", [("ITC", SQUARE)], groups)) == 6400


def test_of_an_asap_rectangle_two_corners_stand_for_four(tmp_path) -> None:
    for corners in ([[10, 10], [90, 90]], [[90, 10], [10, 90]], SQUARE):
        assert area_of(asap(tmp_path / "slide.xml", [("Tumor", corners)], kind="Rectangle")) == 6400


def test_asap_points_are_joined_in_their_order_not_in_that_of_the_lines(tmp_path) -> None:
    path = asap(tmp_path / "slide.xml", [("Tumor", SQUARE)])
    lines = path.read_text().split("<Coordinate ")
    path.write_text("<Coordinate ".join([lines[0], lines[1], lines[3], lines[2], lines[4]]))
    assert area_of(path) == 6400


def test_asap_numbers_may_have_decimal_commas(tmp_path) -> None:
    path = asap(tmp_path / "slide.xml", [("Tumor", [["10,5", "10,5"], ["90,5", "10,5"], ["90,5", "90,5"]])])
    assert area_of(path) == 3200


@pytest.mark.parametrize(
    ("kind", "points", "word"),
    [
        ("Dot", [[5, 5]], "1 point;"),
        ("PointSet", SQUARE, "1 point set;"),
        ("Measurement", SQUARE[:2], "1 measurement;"),
        ("None", SQUARE, "1 untyped annotation;"),
        ("Polygon", SQUARE[:2], "1 flat outline;"),
        ("Rectangle", [SQUARE[0], SQUARE[0]], "1 flat outline;"),
        ("Rectangle", SQUARE[:2], "1 flat outline;"),
        ("Spline", [], "1 flat outline;"),
    ],
)
def test_asap_annotations_without_area_do_not_say_that_there_is_no_tumour(tmp_path, kind, points, word) -> None:
    with pytest.raises(InputError, match=f"outlines no area, but holds {word}"):
        area_of(asap(tmp_path / "slide.xml", [("Tumor", points)], kind=kind))


def qupath(version: str, kind: str, rings: list, name: str = "Tumor") -> dict:
    """An object as QuPath writes it: qupath-core's GsonTools of 0.2, 0.3 and 0.4."""
    old = {"annotation": "PathAnnotationObject", "tma_core": "TMACoreObject"}.get(kind, f"Path{kind.title()}Object")
    made = feature(rings, None)
    colour = {"color": [200, 0, 0]} if version == "0.4" else {"colorRGB": -377282}
    made["properties"] = {"classification": {"name": name, **colour}, "isLocked": False, "measurements": []}
    if version == "0.4":
        made["id"] = "4cbbd4b9-5fb8-4dd4-9b2f-1d4c6a4d9f0a"
        made["properties"]["objectType"] = kind
    else:
        made["id"] = old
        made["properties"] |= {"object_type": kind} if version == "0.3" else {}
    return made


def as_tables_have_it(node: dict) -> dict:
    """As a table of plain columns keeps it (GeoPandas, GDAL): what is structured is a text, the id is a column."""
    columns = {
        name: json.dumps(value, indent=1) if isinstance(value, dict | list) else value
        for name, value in node["properties"].items()
    }
    return {"type": "Feature", "geometry": node["geometry"], "properties": {"id": node["id"], **columns}}


@pytest.mark.parametrize("as_written", [dict, as_tables_have_it], ids=["as QuPath writes it", "as GeoPandas does"])
@pytest.mark.parametrize("version", ["0.2", "0.3", "0.4"])
def test_of_any_qupath_only_annotations_are_outlines(tmp_path, version, as_written) -> None:
    others = [qupath(version, kind, [LEFT]) for kind in ("detection", "detection", "cell", "tile", "tma_core")]
    objects = [qupath(version, "annotation", [SQUARE]), *others, qupath(version, "annotation", [HOLE], "Exclusion")]
    truth = read_truth(geojson(tmp_path / "slide.geojson", *map(as_written, objects)), "slide.tif", SIZE)
    assert truth.tumor.shape.area == 6000
    assert "2 detections, 1 cell, 1 tile, 1 TMA core" in truth.notes[0]
    with pytest.raises(InputError, match="outlines no area, but holds 2 detections, 1 cell, 1 tile, 1 TMA core;"):
        area_of(geojson(tmp_path / "slide.geojson", *map(as_written, others)))


def test_an_annotation_within_another_object_counts(tmp_path) -> None:
    tissue = feature([SQUARE], "Tissue", childObjects=[feature([HOLE]), feature([LEFT], objectType="cell")])
    assert area_of(geojson(tmp_path / "slide.geojson", tissue)) == 400


def shape(kind: str, coordinates: list, name: str = "Tumor") -> dict:
    geometry = {"type": kind, "coordinates": coordinates}
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}}}


NO_AREAS = {
    "1 point": shape("Point", [5, 5]),
    "1 point set": shape("MultiPoint", SQUARE),
    "1 line": shape("LineString", [*SQUARE, SQUARE[0]]),
    "2 lines": {"type": "FeatureCollection", "features": [shape("LineString", SQUARE), shape("LineString", LEFT)]},
    "1 empty annotation": {"type": "Feature", "geometry": None, "properties": {"classification": {"name": "Tumor"}}},
    "1 flat outline": shape("Polygon", [[*SQUARE[:2], SQUARE[0]]]),
    "1 flat outline ": shape("Polygon", []),
    "1 flat outline  ": shape("MultiPolygon", []),
    "1 flat outline   ": shape("Polygon", [[[1, 1], [5, 5], [9, 9], [1, 1]]]),
}


@pytest.mark.parametrize("held", NO_AREAS)
@pytest.mark.parametrize("beside", [[], [feature([LEFT], "Normal")]], ids=["alone", "beside an area of another class"])
def test_annotations_without_area_do_not_say_that_there_is_no_tumour(tmp_path, held, beside) -> None:
    with pytest.raises(InputError, match=f"outlines no area, but holds {held.strip()};"):
        area_of(geojson(tmp_path / "slide.geojson", NO_AREAS[held], *beside))


@pytest.mark.parametrize("held", NO_AREAS)
def test_beside_an_area_what_has_none_is_left_out_and_said(tmp_path, held) -> None:
    truth = read_truth(geojson(tmp_path / "slide.geojson", feature([SQUARE]), NO_AREAS[held]), "slide.tif", SIZE)
    assert truth.tumor.shape.area == 6400
    (note,) = truth.notes
    assert note.startswith("not used")
    assert note.endswith(f": {held.strip()}")


def test_a_class_in_a_text_that_is_no_json_is_a_name(tmp_path) -> None:
    with pytest.raises(InputError, match=r"outlines of class \{tumor, none known as tumour"):
        area_of(geojson(tmp_path / "slide.geojson", feature([SQUARE], None, classification="{tumor")))


@pytest.mark.parametrize(
    "document",
    [
        {"type": "FeatureCollection", "features": [feature([SQUARE, HOLE])]},
        [feature([SQUARE, HOLE])],
        feature([SQUARE, HOLE]),
        feature([SQUARE, HOLE], kind="MultiPolygon"),
        feature([SQUARE, HOLE], "tumour"),
        feature([SQUARE, HOLE], "Tumor: CK+"),
        feature([SQUARE, HOLE], None, classification={"names": ["Tumor", "CK+"]}),
        feature([SQUARE, HOLE], None, classification="Positive"),
        feature([SQUARE, HOLE], None),
        {"type": "GeometryCollection", "geometries": [feature([SQUARE, HOLE])["geometry"]]},
        [feature([SQUARE]), feature([HOLE], "Exclusion")],
        [feature([SQUARE, HOLE]), feature([LEFT], "Stroma"), feature([LEFT], objectType="detection")],
    ],
    ids=lambda document: json.dumps(document)[:60],
)
@pytest.mark.parametrize("ending", [".geojson", ".json", ".json.gz"])
def test_every_way_of_geojson_gives_the_same_area(tmp_path, document, ending) -> None:
    path = tmp_path / f"slide{ending}"
    raw = json.dumps(document).encode()
    path.write_bytes(gzip.compress(raw) if ending.endswith("gz") else raw)
    assert area_of(path) == 6400 - 400


def test_the_generators_own_truth_is_read(tmp_path) -> None:
    path = tmp_path / "slide.geojson"
    path.write_text(to_geojson([Region(tuple(map(tuple, SQUARE)), (tuple(map(tuple, HOLE)),))]))
    assert area_of(path) == 6400 - 400


def test_one_slide_of_a_camelyon_collection_is_found_by_name_whatever_its_case(tmp_path) -> None:
    path = tmp_path / "all.json"
    path.write_text(
        json.dumps({"tumor_001": {"positive": [LEFT]}, "tumor_002": {"positive": [SQUARE], "negative": []}})
    )
    assert area_of(path, "Tumor_002.tif") == 6400
    with pytest.raises(InputError, match="holds 2 slides"):
        area_of(path, "tumor_003.tif")


def test_a_file_that_was_changed_is_read_again(tmp_path) -> None:
    path = geojson(tmp_path / "slide.geojson", feature([SQUARE]))
    assert area_of(path) == 6400
    geojson(path, feature([SQUARE]), feature([HOLE], "Exclusion"))
    assert area_of(path) == 6000


def test_the_caller_says_which_classes_are_tumour(tmp_path) -> None:
    path = geojson(tmp_path / "slide.geojson", feature([SQUARE], "IDC"), feature([HOLE], "Tumor"))
    assert area_of(path) == 400
    assert area_of(path, classes=ClassNames.from_caller(["idc"])) == 6400
    assert area_of(path, classes=ClassNames.from_caller(["IDC"], ["tumor"])) == 6000
    with pytest.raises(UsageError, match="cannot be tumour and excluded"):
        ClassNames.from_caller(["IDC"], ["idc"])


def test_outlines_of_unknown_classes_alone_are_no_slide_without_tumour(tmp_path) -> None:
    path = geojson(tmp_path / "slide.geojson", feature([SQUARE], "IDC"))
    with pytest.raises(InputError, match=r"class IDC.*--tumor-class.*negative\.txt"):
        area_of(path)


def test_a_loop_at_a_corner_is_repaired_and_said(tmp_path) -> None:
    loop = [[10, 10], [90, 10], [90, 90], [10, 90], [10, 12], [12, 10], [12, 14]]
    truth = read_truth(geojson(tmp_path / "slide.geojson", feature([loop])), "slide.tif", SIZE)
    assert truth.tumor.shape.area == pytest.approx(6400, rel=0.01)
    assert "1 self-crossing outlines were repaired" in truth.notes[0]


def test_a_figure_of_eight_is_refused_with_its_place(tmp_path) -> None:
    eight = [[10, 10], [90, 90], [90, 10], [10, 90]]
    with pytest.raises(InputError, match=r"crosses itself.*Self-intersection\[50 50\]"):
        area_of(geojson(tmp_path / "slide.geojson", feature([eight])))


def test_outlines_of_another_slide_are_refused(tmp_path) -> None:
    far = [[x + 95, y] for x, y in SQUARE]
    with pytest.raises(InputError, match="100 % of the tumour lies outside the slide of 100 x 100"):
        area_of(geojson(tmp_path / "slide.geojson", feature([far])))


def test_what_reaches_past_the_slide_is_cut_off_and_said(tmp_path) -> None:
    over = [[x + 20, y] for x, y in SQUARE]
    truth = read_truth(geojson(tmp_path / "slide.geojson", feature([over])), "slide.tif", SIZE)
    assert truth.tumor.shape.area == 70 * 80
    assert truth.notes == ("12 % of the tumour lies outside the slide and was cut off",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("slide.xml", "<ASAP_Annotations>", "not valid XML"),
        ("slide.xml", "<Annotations/>", "expected ASAP_Annotations"),
        ("slide.xml", '<ASAP_Annotations><Annotation><Coordinate X="a" Y="1"/></Annotation></ASAP_Annotations>', "bad"),
        ("slide.geojson", "{", "not valid JSON"),
        ("slide.geojson", '{"type": "Feature"}', "malformed GeoJSON"),
        ("slide.geojson", '{"type": "Polygon", "coordinates": [[[1, 2], [3, NaN], [5, 6]]]}', "malformed GeoJSON"),
        ("slide.geojson", '{"type": "Curve"}', "malformed GeoJSON"),
        ("slide.tif", "no TIFF", "not a readable TIFF"),
        ("other.geojson", '{"type": "FeatureCollection", "features": []}', "is not named after slide 'slide'"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, name, content, message) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message):
        area_of(tmp_path / name)


@pytest.mark.parametrize(
    ("present", "expected"),
    [
        (["slide.xml"], "slide.xml"),
        (["SLIDE.GeoJSON"], "SLIDE.GeoJSON"),
        (["slide.tif", "slide.geojson"], "slide.geojson"),
        (["slide.tif", "slide_mask.tif"], "slide_mask.tif"),
        (["slide.tif"], "slide.tif"),
        (["negative.txt"], "negative.txt"),
        (["slide.tif", "negative.txt"], "negative.txt"),
    ],
    ids=str,
)
def test_truth_is_found_by_the_slides_name(tmp_path, present, expected) -> None:
    for name in present:
        (tmp_path / name).write_text("# none\nslide.svs  # a normal one\n")
    assert find_annotation(tmp_path, "slide.svs").name == expected


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ([], r"no truth for slide 'slide'.*\.xml.*negative\.txt"),
        (["slide.xml", "slide.geojson"], "both tell of slide 'slide'"),
        (["slide.xml", "negative.txt"], "both tell of slide 'slide'"),
    ],
    ids=str,
)
def test_no_truth_and_two_truths_are_errors(tmp_path, present, message) -> None:
    for name in present:
        (tmp_path / name).write_text("slide")
    with pytest.raises(InputError, match=message):
        find_annotation(tmp_path, "slide.svs")


def test_a_slide_without_tumour_has_an_empty_truth_or_stands_in_the_list(tmp_path) -> None:
    (tmp_path / "negative.txt").write_text("listed\n")
    geojson(tmp_path / "empty.geojson")
    geojson(tmp_path / "benign.geojson", feature([SQUARE], "Normal"))
    for slide in ("listed.tif", "empty.tif", "benign.tif"):
        assert not read_truth(tmp_path, slide, SIZE).coverage((4, 4), 25.0).any()


def test_geojson_counts_from_the_corner_of_the_bounds_as_qupath_does_and_asap_does_not(tmp_path) -> None:
    geojson(tmp_path / "q.geojson", feature([SQUARE, HOLE]))
    asap(tmp_path / "a.xml", [("Tumor", SQUARE)])
    shifted = read_truth(tmp_path, "q.svs", (300, 200), l0_bounds=(100, 50)).tumor.shape
    assert shifted.bounds == (110, 60, 190, 140)
    assert shifted.area == 80 * 80 - 20 * 20
    assert read_truth(tmp_path, "a.svs", (300, 200), l0_bounds=(100, 50)).tumor.shape.bounds == (10, 10, 90, 90)


def mask_file(path, mask, *, value=255, tile=None, halvings=0):
    with tifffile.TiffWriter(path) as tiff:
        for n in range(halvings + 1):
            tiff.write(
                mask[:: 2**n, :: 2**n].astype(np.uint8) * value, tile=tile, subfiletype=int(n > 0), compression="zlib"
            )
    return path


@pytest.mark.parametrize("step", [2.0, 7.5, 16.0])
@pytest.mark.parametrize("kind", ["strips", "tiles", "reduced"])
def test_a_label_mask_covers_cells_as_a_sum_over_its_pixels_says(tmp_path, kind, step) -> None:
    width, height = 90, 70
    mask = np.kron(np.random.default_rng(1).random((35, 45)) < 0.3, np.ones((2, 2), bool))
    stored = mask[::2, ::2] if kind == "reduced" else mask
    path = mask_file(tmp_path / "slide_mask.tif", stored, tile=(16, 16) if kind == "tiles" else None)
    rows, cols = int(np.ceil(height / step)), int(np.ceil(width / step))
    covered = read_truth(path, "slide.tif", (width, height)).coverage((rows, cols), step) / 2**20
    fine = np.kron(mask, np.ones((2, 2)))  # half pixels: steps are whole numbers of them
    side = round(2 * step)
    padded = np.zeros((rows * side, cols * side))
    padded[: 2 * height, : 2 * width] = fine
    np.testing.assert_allclose(covered, padded.reshape(rows, side, cols, side).mean(axis=(1, 3)), atol=1e-6)


def test_of_a_pyramidal_mask_a_level_is_read_that_is_fine_enough(tmp_path) -> None:
    mask = np.zeros((512, 512), bool)
    mask[:256] = True
    path = mask_file(tmp_path / "slide_mask.tif", mask, tile=(64, 64), halvings=3)
    covered = read_truth(path, "slide.tif", (512, 512)).coverage((16, 16), 32.0)
    assert (covered[:8] == 2**20).all()
    assert not covered[8:].any()


def test_a_mask_counts_the_value_that_the_caller_names(tmp_path) -> None:
    labels = np.repeat([[0, 1, 2, 3]], 4, axis=0).astype(np.uint8)
    tifffile.imwrite(tmp_path / "slide_mask.tif", labels)
    for value, tumor in ((None, [0, 1, 1, 1]), (2, [0, 0, 1, 0])):
        truth = read_truth(tmp_path, "slide", (400, 400), TruthOptions(mask_value=value))
        assert (truth.coverage((4, 4), 100.0)[0] == np.array(tumor) * 2**20).all()


@pytest.mark.parametrize(("shape", "fits"), [((22, 31), True), ((23, 32), True), ((22, 32), True), ((31, 22), False)])
def test_a_mask_has_the_slides_shape_up_to_a_rounded_pixel(tmp_path, shape, fits) -> None:
    tifffile.imwrite(tmp_path / "slide_mask.tif", np.zeros(shape, np.uint8))
    size = (1000, 720)  # 31.25 x 22.5 pixels of 32
    if fits:
        assert not read_truth(tmp_path, "slide", size).coverage((23, 32), 32.0).any()
    else:
        with pytest.raises(InputError, match="no reduction of the slide's 1000 x 720"):
            read_truth(tmp_path, "slide", size)


def test_a_slide_in_colours_is_no_mask(tmp_path) -> None:
    tifffile.imwrite(tmp_path / "slide.tif", np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="image of 3 channels"):
        read_truth(tmp_path, "slide.svs", (64, 64))
