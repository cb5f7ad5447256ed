"""Every place shows the last look at it."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.export.last_look import read_last_look, tissue_rows
from pyramidai_mpi.pyramid import last_look
from pyramidai_mpi.pyramid.last_look import NEVER
from pyramidai_mpi.store.results.tables import read_header
from tests.results import result_of, write_file
from tests.trees import MASK_PER_TILE, TILE


def opened(path):
    file = h5py.File(path)
    header = read_header(file)
    return file, header, read_last_look(file, header)


@pytest.mark.parametrize("band", [3, 512])
@pytest.mark.parametrize("mode", list(Mode))
def test_a_tissue_pixel_shows_the_finest_readable_tile_over_it(tmp_path, mode, band, monkeypatch):
    monkeypatch.setattr(last_look, "_BAND", band)
    result = result_of(mode=mode)
    file, header, looks = opened(write_file(tmp_path / "out.h5", result))
    with file:
        height, width = header.mask_shape
        score = looks.scores(0, height, width, header.mask_downsample)
        look = looks.looks(0, height, width, header.mask_downsample)
        assert np.array_equal(
            tissue_rows(file, header, 3, height, width, header.mask_downsample), result.tissue.mask[3:]
        )
    known = {
        (n, int(col), int(row)): level.probability[i, 1]
        for n, level in result.tree.levels.items()
        for i, (col, row) in enumerate(level.index)
        if level.decision[i] != Decision.UNREADABLE
    }
    for y, x in np.ndindex(height, width):
        over = [(n, x // (MASK_PER_TILE * 2**n), y // (MASK_PER_TILE * 2**n)) for n in range(3)]
        tile = next((tile for tile in over if tile in known), None)
        assert look[y, x] == (NEVER if tile is None else tile[0])
        assert (np.isnan(score[y, x]) and tile is None) or score[y, x] == known[tile]
    assert len(set(look.ravel().tolist())) > 2 or mode is Mode.REFERENCE


def test_every_tissue_pixel_under_a_readable_root_has_a_score(tmp_path):
    mask = np.random.default_rng(5).random((32, 40)) < 0.6
    result = result_of(mask)
    file, header, last_look = opened(write_file(tmp_path / "out.h5", result))
    file.close()
    score = last_look.scores(0, 32, 40, header.mask_downsample)
    top = result.tree.levels[2]
    side = MASK_PER_TILE * 4
    for (col, row), decision in zip(top.index.tolist(), top.decision, strict=True):
        if decision != Decision.UNREADABLE:
            part = np.s_[row * side : (row + 1) * side, col * side : (col + 1) * side]
            assert np.isfinite(score[part][mask[part]]).all()


def test_a_coarser_picture_takes_the_tile_under_the_pixels_centre(tmp_path):
    file, _, last_look = opened(write_file(tmp_path / "out.h5", result_of()))
    file.close()
    downsample = 50.0
    picture = last_look.scores(4, 9, 20, downsample)
    for y, x in np.ndindex(picture.shape):
        row, col = int((y + 4.5) * downsample // TILE), int((x + 0.5) * downsample // TILE)
        assert np.array_equal(picture[y, x], last_look.score[row, col], equal_nan=True)


def test_nothing_analysed_shows_nothing(tmp_path):
    file, _, last_look = opened(write_file(tmp_path / "out.h5", result_of(np.zeros((10, 12), bool))))
    file.close()
    assert np.isnan(last_look.score).all()
    assert (last_look.look == NEVER).all()
