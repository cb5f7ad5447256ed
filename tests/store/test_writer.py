"""The file holds exactly what section 5 of the design lists, however many slabs it was written in."""

from __future__ import annotations

import datetime

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.store.results.result import Execution, SlideRecord
from pyramidai_mpi.store.results.writer import create_file, finish_file, slab_of, write_slab
from tests.results import CREATED, result_of, write_file


@pytest.fixture(scope="module")
def result():
    """A result with zoomed, stopped and unreadable tiles on every level."""
    made = result_of()
    assert all(set(level.decision.tolist()) == {0, 1, 2} for level in made.tree.levels.values())
    return made


@pytest.fixture(scope="module")
def file(result, tmp_path_factory):
    """Its file, open for reading."""
    with h5py.File(write_file(tmp_path_factory.mktemp("results") / "out.h5", result)) as opened:
        yield opened


def test_the_groups_and_tables_are_those_of_the_design(file):
    names = []
    file.visit(names.append)
    tables = ["coords", "decision", "index", "parent", "probability"]
    expected = ["slide", "model", "tissue", "tissue/mask", "levels", "failed", "execution", "execution/ranks"]
    expected += ["execution/batches"]
    expected += [f"levels/{n}" for n in range(3)] + [f"levels/{n}/{table}" for n in range(3) for table in tables]
    assert sorted(names) == sorted(expected)


ATTRIBUTES = {
    "/": {
        "format", "format_version", "software_version", "created", "complete", "n_tiles_failed", "digest",
    },
    "slide": {"name", "quickhash", "vendor", "dimensions", "mpp", "bounds_x", "bounds_y"},
    "model": {
        "name", "classes", "positive_class", "tile_size", "scale_factor", "base_mpp", "stain", "level_sha256", "yaml",
    },
    "tissue/mask": {"downsample", "method"},
    "levels/1": {
        "patch_size", "patch_size_level0", "patch_level", "downsample", "level_dim", "spacing_um_px", "threshold",
        "network", "cell_px", "window_px",
    },
}  # fmt: skip


@pytest.mark.parametrize("place", ATTRIBUTES)
def test_attributes_are_those_of_the_design(file, place):
    assert set(file[place].attrs) == ATTRIBUTES[place]


def test_the_file_says_what_it_is(file, result):
    attributes = file.attrs
    assert attributes["format"] == "pyramidai-result"
    assert attributes["format_version"] == 1
    assert attributes["software_version"] == "0.1.0"
    assert datetime.datetime.fromisoformat(attributes["created"]) == CREATED
    assert bool(attributes["complete"]) is True
    assert attributes["n_tiles_failed"] == len(result.failed) > 0


def test_slide_and_model_are_described(file):
    slide, model = file["slide"].attrs, file["model"].attrs
    assert (slide["name"], slide["quickhash"], slide["vendor"]) == ("slide.tif", "ab" * 32, "generic-tiff")
    assert slide["dimensions"].tolist() == [45 * 32, 35 * 32]
    assert (slide["mpp"], slide["bounds_x"], slide["bounds_y"]) == (0.2528, 7, 9)
    assert list(model["classes"]) == ["normal", "tumor"]
    assert (model["positive_class"], model["name"], model["stain"]) == ("tumor", "colour", "none")
    assert (model["tile_size"], model["scale_factor"], model["base_mpp"]) == (64, 2, 0.25)
    assert list(model["level_sha256"]) == ["01" * 32, "23" * 32, "45" * 32]
    assert model["yaml"] == "name: x\n"


def test_the_mask_is_bytes_of_0_and_1(file, result):
    mask = file["tissue/mask"]
    assert mask.dtype == np.uint8
    assert (mask[...] == result.tissue.mask).all()
    assert (mask.attrs["downsample"], mask.attrs["method"]) == (32, "otsu-hsv-1")


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tables_have_the_types_and_shapes_of_the_design(file, result, n):
    rows = len(result.tree.levels[n])
    found = {name: (table.dtype, table.shape) for name, table in file[f"levels/{n}"].items()}
    assert rows > 0
    assert found == {
        "coords": (np.dtype("int64"), (rows, 2)),
        "index": (np.dtype("uint32"), (rows, 2)),
        "probability": (np.dtype("float32"), (rows, 2)),
        "decision": (np.dtype("uint8"), (rows,)),
        "parent": (np.dtype("int64"), (rows,)),
    }


@pytest.mark.parametrize("n", [0, 1, 2])
def test_rows_hold_the_tree_in_row_major_order(file, result, n):
    group, level = file[f"levels/{n}"], result.tree.levels[n]
    for name in ("index", "probability", "decision", "parent"):
        assert group[name][...].tobytes() == getattr(level, name).tobytes()
    assert (group["coords"][...] == group["index"][...].astype(np.int64) * 64 * 2**n).all()
    order = group["index"][...][:, ::-1].tolist()
    assert order == sorted(order)
    assert np.isnan(group["probability"][...][group["decision"][...] == 2]).all()
    parent = group["parent"][...]
    if n == 2:
        assert (parent == -1).all()
    else:
        assert (file[f"levels/{n + 1}/index"][...][parent] == group["index"][...] // 2).all()


@pytest.mark.parametrize("n", [0, 1, 2])
def test_levels_are_described(file, n):
    attributes = file[f"levels/{n}"].attrs
    assert (attributes["patch_size"], attributes["patch_size_level0"]) == (64, 64 * 2**n)
    assert (attributes["patch_level"], attributes["downsample"]) == (n, 2**n)
    assert attributes["spacing_um_px"] == 0.2528 * 2**n
    assert attributes["threshold"] == 0.5 - n / 10
    assert attributes["level_dim"].tolist() == [-(-45 * 32 // 2**n), -(-35 * 32 // 2**n)]


def test_failed_tiles_are_listed_with_reasons(file, result):
    failed = file["failed"][...]
    assert failed.dtype.names == ("level", "col", "row", "reason")
    assert failed["reason"][0].decode() == "Größe nicht lesbar"
    unreadable = [
        (n, *index)
        for n in range(3)
        for index in file[f"levels/{n}/index"][...][file[f"levels/{n}/decision"][...] == 2].tolist()
    ]
    assert [(int(f["level"]), int(f["col"]), int(f["row"])) for f in failed] == unreadable


def test_how_it_came_about_is_told(file):
    assert dict(file["execution"].attrs) == {"command_line": "pyramidai slide.tif", "n_ranks": 2, "analyse_s": 1.5}
    assert file["execution/ranks"]["busy_s"].tolist() == [3.5, 4.5]


@pytest.mark.parametrize("parts", [2, 3, 7, 500])
def test_slabs_of_any_number_of_writers_make_the_same_file(result, file, tmp_path, parts):
    with h5py.File(write_file(tmp_path / "out.h5", result, parts)) as other:

        def compare(name, one):
            if isinstance(one, h5py.Dataset):
                assert other[name][...].tobytes() == one[...].tobytes()

        file.visititems(compare)


@pytest.mark.parametrize("parts", [1, 2, 5, 500])
def test_slabs_share_out_every_row_once(result, parts):
    slabs = [slab_of(result, part, parts) for part in range(parts)]
    for n, level in enumerate(result.tree.levels.values()):
        end = 0
        for slab in slabs:
            assert slab.first_row[n] == end
            end += len(slab.tables[n]["index"])
        assert end == len(level)
        sizes = [len(slab.tables[n]["index"]) for slab in slabs]
        assert max(sizes) - min(sizes) <= 1


def test_an_empty_result_is_a_valid_file(tmp_path):
    empty = result_of(np.zeros((35, 45), bool))
    with h5py.File(write_file(tmp_path / "empty.h5", empty)) as opened:
        assert opened.attrs["n_tiles_failed"] == 0
        assert [opened[f"levels/{n}/probability"].shape for n in range(3)] == [(0, 2)] * 3
        assert opened["failed"].shape == (0,)


def test_a_file_is_not_complete_before_it_is_finished(result, tmp_path):
    path = tmp_path / "out.h5"
    create_file(path, result, CREATED, "0.1.0")
    write_slab(path, slab_of(result, 0, 1))
    with h5py.File(path) as opened:
        assert not opened.attrs["complete"]


def test_rows_that_were_never_written_are_found_out(result, tmp_path):
    path = tmp_path / "out.h5"
    create_file(path, result, CREATED, "0.1.0")
    write_slab(path, slab_of(result, 0, 2))
    with pytest.raises(InternalError, match=r"out\.h5"):
        finish_file(path, result.execution, result.digest())


def test_long_texts_fit(tmp_path):
    long = Execution({"command_line": "pyramidai " + "x" * 200_000}, result_of().execution.ranks)
    path = write_file(tmp_path / "out.h5", result_of(execution=long))
    with h5py.File(path) as opened:
        assert len(opened["execution"].attrs["command_line"]) == 200_010


@pytest.mark.parametrize(
    ("name", "stored"),
    [("Schnitt 7 – Größe µ.tif", "Schnitt 7 – Größe µ.tif"), ("caf\udce9.tif", "caf\\udce9.tif")],
    ids=["UTF-8", "Latin-1 bytes"],
)
def test_a_slide_of_any_name_can_be_recorded(tmp_path, name, stored):
    ranks = result_of().execution.ranks
    named = result_of(
        slide=SlideRecord(name, "ab" * 32, "generic-tiff", (1440, 1120), 0.25, (0, 0)),
        execution=Execution({"command_line": f"pyramidai {name}"}, ranks),
    )
    with h5py.File(write_file(tmp_path / "out.h5", named)) as opened:
        assert opened["slide"].attrs["name"] == stored
        assert opened["execution"].attrs["command_line"] == f"pyramidai {stored}"
