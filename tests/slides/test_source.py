"""Reading ahead changes no pixel, happens only where it helps, and never touches a closed slide."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides import source as source_module
from pyramidai_mpi.slides.pyramid import SlidePyramid
from pyramidai_mpi.slides.readers.base import UnreadableRegionError
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.slides.source import TileSource
from tests.tiffs import stored_tile, zero_tile

TILES = [(0, 0), (1, 0), (3, 2), (7, 5)]


def pyramid_of(path, reader="auto", tile_size=128):
    return SlidePyramid.build(
        open_slide(path, reader), 0.25, tile_size=tile_size, base_mpp=0.25, scale_factor=2, n_levels=3
    )


@pytest.fixture
def clock(monkeypatch):
    """Time that goes by only in the reads of `timed`."""
    now = SimpleNamespace(wall=0.0, cpu=0.0)
    monkeypatch.setattr(
        source_module, "time", SimpleNamespace(perf_counter=lambda: now.wall, thread_time=lambda: now.cpu)
    )
    return now


def timed(pyramid, clock, wall, cpu, monkeypatch):
    """From now on, each read takes so many seconds."""
    plain = SlidePyramid.read_tile

    def read_tile(self, *where):
        clock.wall += wall
        clock.cpu += cpu
        return plain(self, *where)

    monkeypatch.setattr(SlidePyramid, "read_tile", read_tile)


@pytest.mark.parametrize("reader", ["openslide", "tiff"])
@pytest.mark.parametrize("level", [0, 1])
def test_what_is_read_ahead_is_what_is_read_later(slide, reader, level):
    tiles = [(col // 2**level, row // 2**level) for col, row in TILES]
    source = TileSource(pyramid_of(slide, reader), "always")
    ahead = source.prepare(level, tiles)
    for tile, found in zip(tiles, ahead, strict=True):
        assert (found == source.read(level, *tile)).all()
        assert (found == pyramid_of(slide, "openslide").read_tile(level, *tile)).all()


@pytest.mark.parametrize("reader", ["openslide", "tiff"])
def test_an_unreadable_tile_is_unreadable_ahead_too(slide, reader):
    zero_tile(slide, 3, 2)
    source = TileSource(pyramid_of(slide, reader), "always")
    good, bad = source.prepare(0, [(0, 0), (3, 2)])
    assert isinstance(good, np.ndarray)
    assert isinstance(bad, UnreadableRegionError)
    assert str(bad) == str(source.read(0, 3, 2))


def test_never_reads_nothing_ahead(slide):
    assert TileSource(pyramid_of(slide), "never").prepare(0, TILES) == [None] * 4


def test_a_closed_slide_is_not_read_any_more(slide):
    source = TileSource(pyramid_of(slide), "always")
    source.close()
    assert source.prepare(0, TILES) == [None] * 4


def test_a_slide_that_was_written_to_is_refused_by_read_and_not_before(slide):
    source = TileSource(pyramid_of(slide), "always")
    slide.write_bytes(slide.read_bytes() + b"more")
    assert source.prepare(0, TILES) == [None] * 4
    with pytest.raises(InputError, match="written to"):
        source.read(0, 0, 0)


def test_pixels_are_read_ahead_once_reading_is_mostly_waiting_and_no_longer(slide, clock, monkeypatch):
    source = TileSource(pyramid_of(slide))
    assert source.prepare(0, TILES) == [None] * 4
    timed(source, clock, 0.010, 0.001, monkeypatch)
    for _ in range(60):
        source.read(0, 1, 1)
    assert source.reads_ahead
    assert all(found is not None for found in source.prepare(0, TILES))
    timed(source, clock, 0.010, 0.020, monkeypatch)  # 0.020 of wall, 0.021 of processor
    for _ in range(60):
        source.read(0, 1, 1)
    assert not source.reads_ahead
    assert source.prepare(0, TILES) == [None] * 4


def test_the_system_is_told_of_the_very_bytes_that_will_be_read_once(slide, monkeypatch):
    told, read = [], []
    plain_read = os.pread
    monkeypatch.setattr(os, "posix_fadvise", lambda _, offset, count, __: told.append((offset, count)))
    monkeypatch.setattr(os, "pread", lambda *arguments: read.append(arguments[:0:-1]) or plain_read(*arguments))
    source = TileSource(pyramid_of(slide, tile_size=192))
    for _ in range(2):
        assert source.prepare(0, [(1, 0)]) == [None]  # pixels 192 to 384 of columns, 0 to 192 of rows
    assert sorted(told) == sorted(stored_tile(slide, col, row) for col in (1, 2) for row in (0, 1))
    source.read(0, 1, 0)
    assert set(told) <= set(read)


def test_no_advice_is_given_on_what_lies_outside_or_goes_to_openslide(slide, monkeypatch):
    told = []
    monkeypatch.setattr(os, "posix_fadvise", lambda *arguments: told.append(arguments))
    open_slide(slide).expect((5000, 5000), 0, (100, 100))
    open_slide(slide, "openslide").expect((0, 0), 0, (100, 100))
    assert told == []
