"""Tables of many patches are read in blocks: the same places as from the whole table, and as carefully."""

from __future__ import annotations

from dataclasses import replace

import h5py
import numpy as np
import pytest

from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.run.assemble import RANK_DTYPE
from pyramidai_mpi.store.patches import tables
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import (
    IMAGE_INDEX_DTYPE,
    PLACE_DTYPE,
    TILE_INDEX_DTYPE,
    PatchSettings,
    PatchSlide,
    listed_table,
    patch_digest,
    patch_table,
)
from pyramidai_mpi.store.patches.tables import BLOCK_ROWS
from pyramidai_mpi.store.patches.writer import PatchContent, write_patches
from pyramidai_mpi.store.results.result import Execution
from pyramidai_mpi.store.results.seal import seal_file
from tests.patch_files import CREATED

SIZE, STRIDE, SIDE = 96, 64, 250
N = 40_000
SETTINGS = PatchSettings(
    SIZE, STRIDE, float("nan"), 0, 0.25, 1.0, 0, 1.0, 1.0, 0, 0, 0.05, "test", "[]", "none", 400
)  # fmt: skip
L0_SIZE = (SIDE * STRIDE, SIDE * STRIDE)


def table_of(places: str) -> tuple[PatchSettings, np.ndarray]:
    rng = np.random.default_rng(0)
    settings = replace(SETTINGS, places=places)
    if places == "listed":
        return settings, listed_table(settings, L0_SIZE, rng.integers(-50, 20_000, (N, 2)))
    kept = np.sort(rng.choice(SIDE * SIDE, N, replace=False))
    index = np.stack([kept % SIDE, kept // SIDE], axis=1)
    return settings, patch_table(settings.grid(L0_SIZE), index, rng.random(N, np.float32))


@pytest.fixture(scope="module", params=["grid", "listed"])
def pair(request, tmp_path_factory):
    """Records of many patches, and their file."""
    settings, table = table_of(request.param)
    path = tmp_path_factory.mktemp("many") / "many.patches.h5"
    slide = PatchSlide("many.tif", "0" * 64, "generic-tiff", L0_SIZE, 0.25)
    content = PatchContent(slide, settings, table, np.zeros(0, FAILED_DTYPE), N, None)
    write_patches(path, content, Execution({}, np.zeros(1, RANK_DTYPE)), CREATED, "0.1.0")
    return table, path


def test_places_are_those_of_the_whole_table_whatever_blocks_they_lie_in(pair):
    table, path = pair
    names = list(PLACE_DTYPE.names)
    ranges = [(0, 1), (0, 0), (N - 1, N), (N, N), (0, N), (BLOCK_ROWS - 1, BLOCK_ROWS), (BLOCK_ROWS, BLOCK_ROWS + 1)]
    ranges += [(BLOCK_ROWS - 200, BLOCK_ROWS + 200), (5, 2 * BLOCK_ROWS + 5), (39_600, 40_000)]
    with PatchFile(path) as file:
        for first, last in ranges:
            np.testing.assert_array_equal(file.places(first, last)[names], table[first:last][names])
        assert "patches" not in file.__dict__
        assert len(file._places.blocks) == 3
        assert file.patches.tobytes() == table.tobytes()  # NaN and all
        np.testing.assert_array_equal(file.places(16_000, 17_000)[names], table[16_000:17_000][names])


def test_a_group_takes_its_block_alone(pair, monkeypatch):
    _, path = pair
    with open_patches(path) as patches:
        with pytest.raises(InputError, match="coordinates alone"):
            patches.group(50)
        patches._places(np.arange(20_000, 20_400))
        assert list(patches._file._places.blocks) == [20_000 // BLOCK_ROWS]
    monkeypatch.setattr(tables, "MOST_BLOCKS", 2)
    with PatchFile(path) as file:
        for first in (0, 20_000, 39_000, 0, 20_000):
            assert len(file.places(first, first + 400)) == 400
            assert len(file._places.blocks) <= 2


def test_the_digest_is_of_the_bytes_of_the_tables(pair):
    table, path = pair
    with PatchFile(path) as file:
        header = file.header
        file.check_tables()
        rest = (file.failed, file.tile_index, None, file.image_index)
        assert patch_digest(header.slide, header.settings, None, table, *rest) == header.digest
        strided = np.zeros(2 * N, table.dtype)[::2]
        strided[:] = table
        assert not strided.flags.c_contiguous
        assert patch_digest(header.slide, header.settings, None, strided, *rest) == header.digest


def test_a_patch_twice_at_the_border_of_two_blocks_is_refused(tmp_path):
    settings, table = table_of("grid")
    table[BLOCK_ROWS] = table[BLOCK_ROWS - 1]
    path = tmp_path / "twice.patches.h5"
    slide = PatchSlide("many.tif", "0" * 64, "generic-tiff", L0_SIZE, 0.25)
    content = PatchContent(slide, settings, table_of("grid")[1], np.zeros(0, FAILED_DTYPE), N, None)
    write_patches(path, content, Execution({}, np.zeros(1, RANK_DTYPE)), CREATED, "0.1.0")
    with h5py.File(path, "r+") as file:
        for name in ("index", "coords", "cell_coords", "tissue", "inside"):
            file[f"patches/{name}"][BLOCK_ROWS] = file[f"patches/{name}"][BLOCK_ROWS - 1]
        nothing = (np.zeros(0, FAILED_DTYPE), np.zeros(0, TILE_INDEX_DTYPE), None, np.zeros(0, IMAGE_INDEX_DTYPE))
        claimed = patch_digest(slide, settings, None, table, *nothing)
        file.attrs["digest"] = claimed
    seal_file(path, [])
    with PatchFile(path) as file, pytest.raises(InputError, match="do not fit each other"):
        file.patches  # noqa: B018
