"""Files of explained tiles: what h5py reads of them, and what is refused."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from itertools import islice

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, InternalError, OutputExistsError
from pyramidai_mpi.store.explanations import reader
from pyramidai_mpi.store.explanations.contents import CURVES, explanation_digest
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.explanations.writer import place_explanation
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.seal import seal_file
from tests.explained import explained_tiles, explanation_of, write_explained
from tests.store.crafted import changes, crafted

NAMES = {"l0_coords": "coords", "maps": "map"}
N_CHANGES = 60


@pytest.fixture(scope="module")
def made():
    return explanation_of()


@pytest.fixture(scope="module")
def path(made, tmp_path_factory):
    return write_explained(tmp_path_factory.mktemp("explained") / "slide.explained.h5", made)


def test_h5py_reads_what_was_written(path, made):
    with h5py.File(path) as file:
        assert {name: file.attrs[name] for name in ("format", "format_version", "complete")} == {
            "format": "pyramidai-explanation",
            "format_version": 1,
            "complete": True,
        }
        said = file["explanation"].attrs
        assert [said[name] for name in ("method", "class", "level", "layer", "downsample")] == [
            "gradcam",
            "tumor",
            0,
            "/features/last",
            1.0,
        ]
        assert json.loads(said["settings"]) == made.settings
        assert (file["slide"].attrs["name"], file["model"].attrs["name"]) == ("slide.tif", "colour")
        assert sorted(file["tiles"]) == sorted(NAMES.get(one.name, one.name) for one in fields(made.tiles))
        for one in fields(made.tiles):
            table = getattr(made.tiles, one.name)
            stored = file["tiles"][NAMES.get(one.name, one.name)]
            np.testing.assert_array_equal(stored[...], table)
            assert stored.dtype == table.dtype
        assert file["failed"][0].tolist() == (0, 5, 2, "Größe nicht lesbar".encode())
        assert file["execution"].attrs["n_ranks"] == 2


def test_it_is_read_back_as_it_was(path, made):
    found = read_explanation(path)
    for one in fields(made.tiles):
        np.testing.assert_array_equal(getattr(found.tiles, one.name), getattr(made.tiles, one.name))
    assert (found.slide, found.model, found.settings) == (made.slide, made.model, made.settings)
    assert found.digest == explanation_digest(made)


def test_the_digest_is_the_one_that_is_described(path, made):
    """Put together from h5py's tables by the words of `explanation_digest`."""
    said = ["gradcam", "tumor", 0, "/features/last", 1.0, made.settings]
    text = json.dumps(said, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(f"pyramidai-explanation-digest/1\n{'ab' * 32}\n{'01' * 32}\n{text}\n".encode())
    with h5py.File(path) as file:
        order = ("index", "coords", "l0_side", "probability", "map", "repeatability", *CURVES)
        for table in (*(file[f"tiles/{name}"][...] for name in order), file["failed"][...]):
            digest.update(np.array(table.shape, "<i8").tobytes() + table.tobytes())
    assert digest.hexdigest() == explanation_digest(made)


def other_maps(made):
    maps = made.tiles.maps.copy()
    maps[0, 0, 0] += 1
    return replace(made, tiles=replace(made.tiles, maps=maps))


@pytest.mark.parametrize(
    ("change", "matters"),
    [
        (lambda made: replace(made, slide=replace(made.slide, quickhash="cd" * 32)), True),
        (lambda made: replace(made, model=replace(made.model, level_sha256=("67" * 32, "23" * 32))), True),
        (lambda made: replace(made, method="gradcam++"), True),
        (lambda made: replace(made, class_name="normal"), True),
        (lambda made: replace(made, layer="other"), True),
        (lambda made: replace(made, settings={**made.settings, "seed": 1}), True),
        (other_maps, True),
        (lambda made: replace(made, settings=dict(reversed(made.settings.items()))), False),
        (lambda made: replace(made, slide=replace(made.slide, name="renamed.tif")), False),
        (lambda made: replace(made, model=replace(made.model, level_sha256=("01" * 32, "67" * 32))), False),
    ],
)
def test_the_digest_tells_apart_what_matters(made, change, matters):
    assert (explanation_digest(change(made)) != explanation_digest(made)) is matters


def test_areas_are_the_trapezoids_under_the_curves():
    tiles = explained_tiles(np.array([(0, 0), (1, 0)]), n_steps=64)
    for name, area in tiles.areas().items():
        np.testing.assert_allclose(area, np.trapezoid(getattr(tiles, name), dx=1 / 64, axis=1), rtol=1e-6)
    assert explained_tiles(np.array([(0, 0)]), n_steps=0).areas() == {}


def test_no_tiles_and_no_curves_can_be_kept(tmp_path):
    for number, tiles in enumerate(
        (explained_tiles(np.zeros((0, 2), int)), explained_tiles(np.array([(3, 4)]), n_steps=0, map_side=7))
    ):
        found = read_explanation(write_explained(tmp_path / f"{number}.explained.h5", explanation_of(tiles)))
        assert found.tiles.maps.shape == tiles.maps.shape
        assert found.tiles.has_curves is (number == 0)


def test_hdf5_does_not_see_a_damaged_file(path, tmp_path, monkeypatch):
    def seen(*_, **__):
        raise AssertionError("HDF5 was given a damaged file")

    whole = path.read_bytes()
    monkeypatch.setattr(reader.h5py, "File", seen)
    for place in np.random.default_rng(0).integers(0, len(whole), 25).tolist():
        damaged = bytearray(whole)
        damaged[place] ^= 1
        (tmp_path / "damaged.h5").write_bytes(damaged)
        with pytest.raises(InputError, match=r"damaged or changed|no sealed result|no HDF5 file"):
            read_explanation(tmp_path / "damaged.h5")
    (tmp_path / "cut.h5").write_bytes(whole[:-1])
    with pytest.raises(InputError, match="no sealed result"):
        read_explanation(tmp_path / "cut.h5")
    with pytest.raises(InputError, match="no such file"):
        read_explanation(tmp_path / "missing.h5")


def test_whatever_a_sealed_file_claims_is_read_or_refused_in_one_line(path, made, tmp_path):
    """Of some changes, each sealed again."""
    every = list(changes(path))
    n_refused = 0
    for _, change in islice(every, 3, None, len(every) // N_CHANGES):
        target = tmp_path / "crafted.h5"
        try:
            found = read_explanation(crafted(path, target, change))
        except InputError as error:
            assert "\n" not in str(error)
            n_refused += 1
        else:  # what was changed is no part of what the file says
            assert found.digest == explanation_digest(made)
    assert n_refused > N_CHANGES // 2


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("index", lambda rows: rows[::-1]),
        ("map", lambda rows: np.where(np.isnan(rows), np.float32(0), rows)),
        ("map", lambda rows: np.full_like(rows, np.inf)),
        ("l0_side", lambda rows: 0 * rows),
        ("coords", lambda rows: rows + 2**40),
        ("repeatability", lambda rows: np.full_like(rows, 2)),
        ("deletion", lambda rows: np.full_like(rows, np.nan)),
    ],
)
def test_tables_that_do_not_fit_each_other_are_refused(path, tmp_path, table, change):
    target = tmp_path / "changed.h5"
    target.write_bytes(path.read_bytes())
    with h5py.File(target, "r+") as file:
        file[f"tiles/{table}"][...] = change(file[f"tiles/{table}"][...])
    seal_file(target, [])
    with pytest.raises(InputError, match="do not fit each other"):
        read_explanation(target)


def test_a_result_is_no_explanation_nor_the_other_way_round(path):
    with pytest.raises(InputError, match="its format is 'pyramidai-explanation'"):
        open_result(path)


def test_what_cannot_be_true_is_not_written(made, tmp_path):
    maps = made.tiles.maps.copy()
    maps[0, 0, 0] = np.inf
    with pytest.raises(InternalError, match="does not hold what was to be written"):
        place_explanation(tmp_path / "a.h5", replace(made, tiles=replace(made.tiles, maps=maps)))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_replaced_unasked(made, path):
    whole = path.read_bytes()
    with pytest.raises(OutputExistsError):
        place_explanation(path, other_maps(made))
    assert path.read_bytes() == whole
    assert [one.name for one in path.parent.iterdir()] == [path.name]
