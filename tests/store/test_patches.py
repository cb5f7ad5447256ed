"""A file of patches is what was written, or is refused; what it claims is believed only where it can be."""

from __future__ import annotations

import os
import shutil
from itertools import islice

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import (
    IMAGE_INDEX_DTYPE,
    PATCH_DTYPE,
    TILE_INDEX_DTYPE,
    ImageStore,
    origin_of,
    patch_digest,
    patch_table,
)
from pyramidai_mpi.store.results.reader import read_digest
from tests.patch_files import order_of, resealed, write_patches_of
from tests.results import result_of, write_file
from tests.store.crafted import changes
from tests.tiffs import textured, write_slide

N_FLIPS = 150
EVERY = int(os.environ.get("PYRAMIDAI_STRIDE", "4"))
"""Every which change is tried."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of 16 patches over 4 x 4 stored tiles, which no test changes."""
    folder = tmp_path_factory.mktemp("patches")
    slide = write_slide(folder / "slide.tif", [textured(512, 512)])
    return write_patches_of(slide, folder / "out.patches.h5", order_of(192, 128))


@pytest.fixture
def path(whole, tmp_path):
    """A copy for a test to spoil."""
    return shutil.copyfile(whole, tmp_path / "out.patches.h5")


def read_all(path) -> None:
    with open_patches(path) as patches:
        for line in patches.check():
            raise InputError(line)
        for number in range(len(patches)):
            patches.patch(number)


def refusal(path) -> str:
    with pytest.raises(InputError) as caught:
        read_all(path)
    line = str(caught.value)
    assert "\n" not in line
    assert len(line) < 1000
    return line


def test_what_is_whole_is_read(whole):
    read_all(whole)


def test_of_many_single_bits_each_is_noticed(whole, path):
    data = whole.read_bytes()
    places = np.linspace(0, len(data) * 8 - 1, N_FLIPS).astype(int)
    for place in places.tolist():
        spoilt = bytearray(data)
        spoilt[place // 8] ^= 1 << (place % 8)
        path.write_bytes(spoilt)
        assert "out.patches.h5" in refusal(path)


def test_bits_of_stored_tiles_are_checked_where_they_are_read_and_not_before(whole, path):
    with PatchFile(whole) as file:
        place = int(file._tile_places[5]) + 40
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))
    with open_patches(path) as patches:
        # tile 5 is column 1, row 1: under the window of cell (1, 1), not under that of cell (3, 3)
        patches.patch(15)
        with pytest.raises(InputError, match="stored tile 5 was damaged after it was written"):
            patches.patch(5)
        assert len(patches.check()) == 1


@pytest.mark.parametrize("kept", [0, 7, 8, 100, 4000, -1, -56, -300])
def test_what_was_cut_is_refused(whole, path, kept):
    path.write_bytes(whole.read_bytes()[:kept])
    refusal(path)


def test_bytes_that_were_added_are_refused(whole, path):
    path.write_bytes(whole.read_bytes() + b"more")
    refusal(path)


def test_a_result_is_no_file_of_patches_and_the_other_way_round(whole, tmp_path):
    result = write_file(tmp_path / "out.h5", result_of())
    with pytest.raises(InputError, match=r"out\.h5: no patches of this program: its format is 'pyramidai-result'"):
        open_patches(result)
    with pytest.raises(InputError, match=r"no result of this program: its format is 'pyramidai-patches'"):
        read_digest(whole)


@pytest.mark.parametrize(
    ("name", "said"), [("missing.patches.h5", "no such file of patches"), ("", "is a folder; name a file of patches")]
)
def test_what_is_no_file_is_refused(tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        open_patches(tmp_path / name)


def test_a_file_that_changes_while_it_is_open_is_noticed(whole, path):
    with open_patches(path) as patches:
        path.write_bytes(whole.read_bytes()[:-1])
        with pytest.raises(InputError, match="was changed since it was opened"):
            patches.coords  # noqa: B018


def test_whatever_is_put_into_a_file_it_says_what_it_said_or_is_refused_in_a_line(whole, path):
    with open_patches(whole) as patches:
        digest, n_read, n_refused = patches.digest, 0, 0
    for what, change in islice(changes(whole), 0, None, EVERY):
        shutil.copyfile(whole, path)
        try:
            resealed(path, change)
        except (TypeError, ValueError, OSError, OverflowError, RuntimeError):
            continue  # HDF5 takes no such thing
        try:
            read_all(path)  # compares its content with its digest
            n_read += 1
            with open_patches(path) as patches:
                assert patches.digest == digest, what
        except InputError as error:
            assert "\n" not in str(error), what
            n_refused += 1
    assert n_refused > 1000 / EVERY
    assert n_read > 50 / EVERY  # other times, versions, names; the same numbers as other types


@pytest.mark.parametrize(
    ("table", "value"),
    [
        ("patches/coords", -1),
        ("patches/cell_coords", 5),
        ("patches/index", 4000),
        ("patches/tissue", 2),
        ("patches/inside", 0.5),
        ("tiles/index", np.array((10**6, 100, 0), TILE_INDEX_DTYPE)),
        ("tiles/index", np.array((0, 2**31, 0), TILE_INDEX_DTYPE)),
    ],
)
def test_rows_that_cannot_be_are_refused(path, table, value):
    def change(file):
        file[table][0] = value

    resealed(path, change)
    refusal(path)


@pytest.mark.parametrize(
    ("place", "name", "value"),
    [("settings", "labels", '["\\ud800"]'), ("slide", "name", b"\xff.tif"), ("/", "digest", b"\xff")],
)
def test_texts_that_no_page_or_table_could_say_are_refused(path, place, name, value):
    resealed(path, lambda file: file[place].attrs.__setitem__(name, value))
    refusal(path)


def test_other_rows_than_those_that_were_written_give_another_digest(path):
    def change(file):
        file["patches/tissue"][3] = 0.25

    resealed(path, change)
    assert "another digest" in refusal(path)


def test_a_digest_is_of_slide_settings_and_tables(whole):
    from dataclasses import replace

    with PatchFile(whole) as file:
        header, tables = file.header, (file.patches, file.failed, file.tile_index, None, file.image_index)
    parts = (header.slide, header.settings, header.tiles)
    assert patch_digest(*parts, *tables) == header.digest
    others = [
        patch_digest(replace(header.slide, quickhash="0" * 64), *parts[1:], *tables),
        patch_digest(parts[0], replace(header.settings, seed=1), parts[2], *tables),
        patch_digest(parts[0], replace(header.settings, group=7), parts[2], *tables),
        patch_digest(*parts[:2], replace(header.tiles, is_ycbcr=not header.tiles.is_ycbcr), *tables),
        patch_digest(*parts, tables[0][1:], *tables[1:]),
        patch_digest(*parts, *tables[:2], tables[2][1:], *tables[3:]),
        patch_digest(*parts, *tables[:3], ImageStore("raw"), tables[4]),
        patch_digest(*parts, *tables[:4], np.ones(1, IMAGE_INDEX_DTYPE)),
    ]
    assert len({header.digest, *others}) == len(others) + 1
    # what it was called, and where it lay, is no part of it
    assert patch_digest(replace(header.slide, name="other.tif"), *parts[1:], *tables) == header.digest


def test_a_table_has_places_of_windows_and_of_cells(whole):
    with PatchFile(whole) as file:
        record = file.patches[5]
        grid = file.header.settings.grid(file.header.slide.l0_size)
    assert PATCH_DTYPE.names == record.dtype.names
    assert record.item()[:6] == (1, 1, 96, 96, 128, 128)
    again = patch_table(grid, np.array([[1, 1]]), np.array([record["tissue"]]))
    assert {name: again[0][name] for name in ("l0_x", "cell_l0_x", "inside", "tissue", "label")} == {
        name: record[name] for name in ("l0_x", "cell_l0_x", "inside", "tissue", "label")
    }
    assert record["label"] == -1
    assert all(np.isnan(record[name]) for name in ("tumor", "white", "black"))


@pytest.mark.parametrize(
    ("name", "origin"),
    [
        ("patient_024_node_4.tif", {"patient": "24", "node": "4", "centre": "1"}),
        ("patient_000_node_0.tif", {"patient": "0", "node": "0", "centre": "0"}),
        ("patient_099_node_3.tif", {"patient": "99", "node": "3", "centre": "4"}),
        ("patient_199_node_3.tif", {"patient": "199", "node": "3"}),
        ("tumor_001.tif", {}),
        ("test_114.tif", {}),
        ("patient_24_node_4.tif", {}),
        ("my_patient_024_node_4.tif", {}),
        ("patient_024_node_4_copy.tif", {}),
        ("insidious-lymph-node-metastasis-HE.tif", {}),
    ],
)
def test_patient_node_and_centre_are_what_a_camelyon17_name_says_and_never_guessed(name, origin):
    assert origin_of(name) == origin


def test_the_file_says_whose_it_is(tmp_path):
    slide = write_slide(tmp_path / "patient_024_node_4.tif", [textured(256, 256)])
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(128, 128, pixels="none"))
    with h5py.File(path) as file:
        assert [file["slide"].attrs[name] for name in ("patient", "node", "centre")] == ["24", "4", "1"]
    with open_patches(path) as patches:
        assert patches.origin == {"patient": "24", "node": "4", "centre": "1"}


def test_coordinates_are_where_programs_that_read_clams_files_look(whole):
    with h5py.File(whole) as file:
        coords = file["patches/coords"]
        assert (coords.dtype, coords.shape) == (np.int64, (16, 2))
        assert coords[0].tolist() == [-32, -32]  # x, y of level 0
        assert coords[1].tolist() == [96, -32]


def test_a_disk_that_is_full_leaves_an_error_and_no_file(tmp_path, monkeypatch):
    from pyramidai_mpi.store.results import failsafe_file

    slide = write_slide(tmp_path / "slide.tif", [textured(512, 512)])
    written = 0

    def pwrite(descriptor, data, place, real=failsafe_file.os.pwrite):
        nonlocal written
        written += len(data)
        if written > 20_000:
            raise OSError(28, "No space left on device")
        return real(descriptor, data, place)

    monkeypatch.setattr(failsafe_file.os, "pwrite", pwrite)
    with pytest.raises(OSError, match="No space left"):
        write_patches_of(slide, tmp_path / "out.patches.h5", order_of(192, 128))
