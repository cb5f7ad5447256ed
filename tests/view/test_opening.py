"""A result is shown over its own slide or over none, whatever it says its slide is called."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.store.results.seal import seal_file
from pyramidai_mpi.view.opening import open_view
from tests.results import result_of, write_file
from tests.tiffs import write_slide

SQUARE = {
    "type": "FeatureCollection",
    "features": [
        {
            "type": "Feature",
            "geometry": {"type": "Polygon", "coordinates": [[[10, 20], [110, 20], [110, 120], [10, 120], [10, 20]]]},
            "properties": {"objectType": "annotation", "classification": {"name": "<b>Tumor</b>"}},
        }
    ],
}
XML = """<?xml version="1.0"?><ASAP_Annotations><Annotations>
<Annotation Name="one" Type="Polygon" PartOfGroup="Tumor"><Coordinates>
<Coordinate Order="0" X="17" Y="29"/><Coordinate Order="1" X="117" Y="29"/><Coordinate Order="2" X="117" Y="129"/>
</Coordinates></Annotation></Annotations></ASAP_Annotations>"""


def test_the_slide_beside_the_result_is_found_by_its_name(view, lossless_slide):
    assert view.note == ""
    assert view.tiles.readers.info.path == lossless_slide


def test_another_slide_of_that_name_is_not_shown_and_it_is_said(tmp_path, made, slide):
    shutil.move(slide, tmp_path / made.slide.name)
    with open_view(write_file(tmp_path / "out.h5", made)) as view:
        assert view.tiles.readers is None
        assert "is another slide" in view.note


def test_another_slide_that_is_given_is_refused(result, slide):
    with pytest.raises(InputError, match=r"is not the slide that .*view\.h5 was made from"):
        open_view(result, slide).__enter__()
    with pytest.raises(InputError, match="no such slide"):
        open_view(result, slide.with_name("missing.tif")).__enter__()


@pytest.mark.parametrize("name", ["../{name}", "{folder}/{name}", "", ".", "..", "sub/{name}", "./{name}"])
def test_a_name_that_leads_elsewhere_is_no_slide(tmp_path, made, lossless_slide, name):
    (tmp_path / "results").mkdir()
    shutil.copy(lossless_slide, tmp_path / lossless_slide.name)
    given = name.format(name=lossless_slide.name, folder=tmp_path)
    path = write_file(tmp_path / "results" / "out.h5", replace(made, slide=replace(made.slide, name=given)))
    with open_view(path) as view:
        assert view.tiles.readers is None
        assert "--slide" in view.note


def test_a_damaged_slide_that_does_not_open_is_refused(tmp_path, made):
    from pyramidai_mpi.slides.identity import quickhash

    path = tmp_path / "bad.tif"
    path.write_bytes(b"II*\x00" + bytes(3000))
    named = replace(made, slide=replace(made.slide, quickhash=quickhash(path)))
    with pytest.raises(InputError, match=r"bad\.tif"):
        open_view(write_file(tmp_path / "out.h5", named), path).__enter__()


def test_a_slide_of_another_size_than_its_result_says_is_refused(tmp_path, made, stored_images):
    from pyramidai_mpi.slides.identity import quickhash

    path = write_slide(tmp_path / "half.tif", stored_images[1:])
    named = replace(made, slide=replace(made.slide, quickhash=quickhash(path)))
    with pytest.raises(InputError, match="its result says"):
        open_view(write_file(tmp_path / "out.h5", named), path).__enter__()


@pytest.mark.parametrize(("ending", "text", "corner"), [
    (".geojson", json.dumps(SQUARE), (17, 29)),  # as QuPath counts: from the corner of the non-empty region, (7, 9)
    (".xml", XML, (17, 29)),
])  # fmt: skip
def test_annotations_are_those_of_the_file_in_level_0_pixels(tmp_path, result, ending, text, corner):
    path = tmp_path / f"any name{ending}"
    path.write_text(text, encoding="utf-8")
    with open_view(result, annotations=path) as view:
        shapes = json.loads(view.annotations)["shapes"]
        assert json.loads(view.description)["annotations"] == path.name
    assert len(shapes) == 1
    assert tuple(shapes[0]["rings"][0][:2]) == corner


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [("empty.geojson", '{"type": "FeatureCollection", "features": []}', "holds no outline"),
     ("mask.png", "", "is a mask"), ("bad.geojson", "{", "bad.geojson"), ("missing.xml", None, "missing.xml")],
)  # fmt: skip
def test_annotations_that_cannot_be_shown_are_refused(tmp_path, result, name, text, words):
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=words):
        open_view(result, annotations=tmp_path / name).__enter__()


def test_regions_are_the_outlines_of_the_export(result, tmp_path):
    from pyramidai_mpi.export.outlines import write_outlines

    write_outlines(result, tmp_path / "regions.geojson")
    expected = json.loads((tmp_path / "regions.geojson").read_text())["features"]
    with open_view(result) as view:
        found = json.loads(view.regions())
    assert found["leftOut"] == 0
    assert len(found["shapes"]) == len(expected) > 0
    for shape, feature in zip(found["shapes"], expected, strict=True):
        rings = [np.add(ring, (7, 9)) for ring in feature["geometry"]["coordinates"]]  # QuPath's corner
        assert len(rings) == len(shape["rings"])
        for ring, flat in zip(rings, shape["rings"], strict=True):
            assert np.abs(np.reshape(flat, (-1, 2)) - ring).max() < 0.06


def test_a_result_of_the_first_versions_can_be_viewed(tmp_path, made):
    path = write_file(tmp_path / "old.h5", made)
    with h5py.File(path, "r+") as file:
        for name in ("intended_use", "digest"):
            for group in (file, file["model"]):
                if name in group.attrs:
                    del group.attrs[name]
    seal_file(path, [])
    with open_view(path) as view:
        assert json.loads(view.description)["claim"] == ""


def test_what_is_no_result_is_refused(tmp_path):
    path = tmp_path / "no.h5"
    path.write_text("no")
    with pytest.raises(InputError, match=r"no\.h5"):
        open_view(path).__enter__()
    assert result_of().tree.n_tiles > 0
