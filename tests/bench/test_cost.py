"""Memory does not grow with the tiles of a run, beyond their records; and what the benches of cost and start-up see."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from bench.speed.mosaic import write_mosaic
from bench.speed.startup import launch
from bench.speed.startup_rank import REACHED
from bench.speed.tiny_network import write_tiny_package
from bench.speed.watched_run import WatchedRun, watch_run
from pyramidai_mpi.slides.readers.openslide_reader import OpenSlideReader
from pyramidai_mpi.testing.launch import DEFAULT_ENVIRONMENT

STORED_TILE_CACHE = 48 << 20  # of a slide's decoded tiles, which the smaller slide does not fill


@pytest.fixture
def launcher(monkeypatch):
    """An environment in which mpirun starts whatever it is, wherever."""
    for name, value in DEFAULT_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.mark.mpi
@pytest.mark.usefixtures("launcher")
def test_four_times_the_tiles_take_hardly_more_memory(tmp_path):
    """Tiles of 32 px have 3072 bytes: 16128 more of them, kept, would take 50 MB more than what is allowed."""
    model = write_tiny_package(tmp_path / "tiny", tile_size=32)
    peaks = []
    for repeats, n_tiles in ((2, 5376), (4, 21504)):
        slide, output = tmp_path / f"{repeats}.tif", tmp_path / f"{repeats}.h5"
        write_mosaic(slide, repeats, block=1024, stored_tile=128)
        seen = watch_run(1, [slide, "--model", model, "--mode", "exhaustive", "--no-tissue"], output)
        with h5py.File(output) as file:
            assert sum(len(level["index"]) for level in file["levels"].values()) == n_tiles
            peaks.append(int(file["execution/ranks"]["peak_bytes"][0]))
        assert seen.wall_s > 0
        assert seen.cpu_s > 0.2
    pixels = [repeats**2 * 1024**2 * 3 * (1 + 1 / 4 + 1 / 16) for repeats in (2, 4)]
    cached = min(pixels[1], STORED_TILE_CACHE) - pixels[0]
    assert peaks[1] - peaks[0] < cached + 16128 * 1000


def test_the_slope_of_memory_leaves_out_the_start_and_the_gathering():
    tiles = np.arange(1, 101) * 100.0
    memory = 1e8 + 52 * tiles
    memory[:15] = 5e7  # loading
    rows = [(0.1 * n, 48 * done, held) for n, (done, held) in enumerate(zip(tiles, memory, strict=True))]
    rows += [(10 + 0.1 * n, 48 * tiles[-1], 3e8) for n in range(30)]  # gathering
    assert WatchedRun(samples={7: rows, 8: rows[::20]}).growth(10000) == pytest.approx([52, np.nan], nan_ok=True)


def test_a_mosaic_repeats_its_block_on_every_level(tmp_path):
    write_mosaic(tmp_path / "m.tif", 3, block=512, stored_tile=128)
    reader = OpenSlideReader(tmp_path / "m.tif")
    assert reader.info.stored_sizes == ((1536, 1536), (768, 768), (384, 384))
    assert reader.info.mpp == pytest.approx(0.25, rel=1e-3)
    for level in range(3):
        first, other = (reader.read(corner, level, (128, 128)) for corner in ((0, 0), (1024, 512)))
        assert np.array_equal(first, other)
        assert first.std() > 1
    reader.close()


@pytest.mark.mpi
@pytest.mark.usefixtures("launcher")
def test_the_way_to_the_first_tile_is_seen_step_by_step(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))  # later starts have the networks before the tissue
    write_mosaic(tmp_path / "m.tif", 2, block=512, stored_tile=128)
    model = write_tiny_package(tmp_path / "tiny", tile_size=32)
    found = launch(2, [tmp_path / "m.tif", "--model", model, "--no-tissue"])
    seconds = [found.wall_s[name] for name, _, _ in REACHED]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0
    assert found.cpu_s["first tile"] > found.cpu_s["python runs"]
