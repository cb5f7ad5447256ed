"""Explained tiles from Python."""

from __future__ import annotations

import base64
import io
import re

import h5py
import numpy as np
import pytest
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.export.explained.table import columns_of
from pyramidai_mpi.export.explained.words import CAVEAT
from tests.export.explained.test_stitched import painted


@pytest.fixture(scope="module")
def opened(explained_path):
    return pyramidai_mpi.open_explanation(explained_path)


def test_tiles_maps_and_curves_are_those_of_the_file(opened, explained_path):
    with h5py.File(explained_path) as file:
        tables = {name: table[...] for name, table in file["tiles"].items()}
        assert opened.digest == file.attrs["digest"]
    np.testing.assert_array_equal(opened.maps, tables["map"])
    np.testing.assert_array_equal(opened.tiles["probability"], tables["probability"])
    np.testing.assert_array_equal(np.stack([opened.tiles["l0_x"], opened.tiles["l0_y"]], axis=1), tables["coords"])
    for name, curve in opened.curves.items():
        np.testing.assert_array_equal(curve, tables[name])
        area = np.trapezoid(tables[name].astype(float), dx=1 / 8, axis=1)
        np.testing.assert_allclose(opened.tiles[f"{name}_area"], area)
    assert len(opened) == len(opened.tiles) == 14
    with pytest.raises(ValueError, match="read-only"):
        opened.maps[0] = 0


def test_the_stitched_map_knows_its_pixels(opened, explained_slide):
    stitched = opened.stitched()
    np.testing.assert_array_equal(stitched.values, painted(explained_slide, 4))
    assert (stitched.l0_side, stitched.spacing_um_px) == (4, 1.0)


def test_it_shows_itself_in_words_and_as_a_picture(opened):
    words = repr(opened)
    for part in ("slide.explained.h5", "gradcam for tumor", "14 tiles, 1 unreadable", CAVEAT, "not for diagnosis"):
        assert part in words
    page = opened._repr_html_()
    assert "&lt;b&gt;a &amp; b" in page
    data = re.search(r"base64,([^\"]+)", page)[1]
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (256, 192)


def test_a_data_frame_has_the_columns_of_the_csv(opened, explained_slide):
    pytest.importorskip("pandas")
    frame = opened.to_pandas()
    assert list(frame.columns) == columns_of(explained_slide)
    np.testing.assert_array_equal(frame["score"].to_numpy(np.float32), explained_slide.score)


def test_what_is_none_is_an_error_of_pythons_own(tmp_path):
    with pytest.raises(FileNotFoundError):
        pyramidai_mpi.open_explanation(tmp_path / "missing.explained.h5")
    (tmp_path / "text.explained.h5").write_text("text")
    with pytest.raises(ValueError, match="no HDF5 file"):
        pyramidai_mpi.open_explanation(tmp_path / "text.explained.h5")
