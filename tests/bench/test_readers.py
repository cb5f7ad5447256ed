"""The bench of readers: which tiles it reads, and that it tells levels of odd size apart."""

from __future__ import annotations

from bench.speed.readers import corners, measured
from tests.slides.test_odd_levels import reduced
from tests.tiffs import halved, write_slide


def test_whole_rows_of_tiles_are_spread_over_a_level():
    assert corners((30, 25), 10, 100) == [(x, y) for y in (0, 10, 20) for x in (0, 10, 20)]
    assert corners((30, 25), 10, 6) == [(x, y) for y in (0, 20) for x in (0, 10, 20)]
    assert corners((30, 25), 10, 1) == [(x, 0) for x in (0, 10, 20)]


def test_both_ways_are_measured_of_odd_levels_alone_and_readers_agree(tmp_path):
    path = write_slide(tmp_path / "odd.tif", reduced(1001, 663, [halved]), compression="zlib")
    figures = measured(path, tile=100, most=1000, repetitions=1)
    times = {(one.figure, one.setting["reader"], one.setting.get("odd levels")) for one in figures if "ms" in one.unit}
    assert times == {
        *(("odd.tif level 0", reader, None) for reader in ("auto", "openslide")),
        *(("odd.tif level 1", reader, way) for reader in ("auto", "openslide") for way in ("own", "interpolated")),
    }
    agree = [one.value for one in figures if "agree" in one.figure]
    assert agree == [1, 1, 1]
    (off,) = [one.value for one in figures if "from interpolated" in one.figure]
    assert off > 0
