"""Slides with damaged, missing or no content: nothing hidden, nothing made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import tifffile

from tests.end_to_end.conftest import digest_of, pyramidai
from tests.packages import write_package

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64


def tissue_slide(path: Path, *, tissue: bool = True, reduced_level: bool = False) -> Path:
    """A tiled JPEG TIFF, 1024 x 1024, glass with a purple square; with a stored level at half the size or without."""
    rng = np.random.default_rng(5)
    pixels = np.full((1024, 1024, 3), 244, np.uint8)
    if tissue:
        pixels[128:896, 128:896] = (150, 80, 160)
        pixels[128:896, 128:896] += rng.integers(0, 60, (768, 768, 1), np.uint8)
    options = {"tile": (256, 256), "photometric": "rgb", "compression": "jpeg", "resolutionunit": "CENTIMETER"}
    with tifffile.TiffWriter(path) as tiff:
        tiff.write(pixels, resolution=(1e4 / 0.25, 1e4 / 0.25), **options)
        if reduced_level:
            half = pixels.reshape(512, 2, 512, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
            tiff.write(half, resolution=(1e4 / 0.5, 1e4 / 0.5), subfiletype=1, **options)
    return path


def wipe_tile(path: Path, number: int) -> None:
    """Overwrite the JPEG stream of one stored tile."""
    with tifffile.TiffFile(path) as tiff:
        offset, length = tiff.pages[0].dataoffsets[number], tiff.pages[0].databytecounts[number]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * length)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model that zooms everywhere, so that every level is looked at."""
    return write_package(tmp_path / "model", side=SIDE, thresholds=(0.5, 0.0, 0.0))


@pytest.mark.mpi
def test_a_damaged_spot_is_exit_3_with_its_tiles_listed_and_the_rest_as_if_nothing_was(
    tmp_path: Path, model: Path
) -> None:
    whole, damaged = tissue_slide(tmp_path / "whole.tif"), tissue_slide(tmp_path / "damaged.tif")
    wipe_tile(damaged, 5)  # stored tile at column 1, row 1: level-0 pixels 256..511
    for slide, code in ((whole, 0), (damaged, 3)):
        assert pyramidai(slide, "--model", model, "-o", slide.with_suffix(".h5")).returncode == code
    done = pyramidai(damaged, "--model", model, "-o", tmp_path / "three.h5", ranks=3)
    assert done.returncode == 3
    assert digest_of(tmp_path / "three.h5") == digest_of(tmp_path / "damaged.h5")
    with h5py.File(whole.with_suffix(".h5")) as good, h5py.File(damaged.with_suffix(".h5")) as bad:
        failed = {(int(r["level"]), int(r["col"]), int(r["row"])) for r in bad["failed"][...]}
        # 256 px of level 0 are 4 x 4 tiles of 64 px, 2 x 2 on level 1 and 1 on level 2
        assert failed == {(2 - k, c, r) for k in range(3) for c in range(2**k, 2**k * 2) for r in range(2**k, 2**k * 2)}
        assert bad.attrs["n_tiles_failed"] == len(failed) == len(good["failed"]) + 21
        for n in ("0", "1", "2"):
            np.testing.assert_array_equal(bad[f"levels/{n}/index"][...], good[f"levels/{n}/index"][...])
            decision, probability = bad[f"levels/{n}/decision"][...], bad[f"levels/{n}/probability"][...]
            unreadable = decision == 2
            assert np.isnan(probability[unreadable]).all()
            np.testing.assert_array_equal(probability[~unreadable], good[f"levels/{n}/probability"][...][~unreadable])
    assert "level 2 col 1 row 1 at level-0 pixel (256, 256)" in done.stderr


def move_tiles_to_the_end(path: Path, numbers: list[int]) -> int:
    """Append copies of stored tiles, point the directory at them, and return where the first copy starts."""
    with tifffile.TiffFile(path, mode="r+b") as tiff:
        page = tiff.pages[0]
        offsets, lengths = list(page.dataoffsets), page.databytecounts
        handle = tiff.filehandle
        first = handle.size
        for number in numbers:
            handle.seek(offsets[number])
            data = handle.read(lengths[number])
            handle.seek(0, 2)
            offsets[number] = handle.tell()
            handle.write(data)
        page.tags["TileOffsets"].overwrite(offsets)
    return first


def test_a_slide_cut_short_that_still_opens_is_exit_3(tmp_path: Path, model: Path) -> None:
    slide = tissue_slide(tmp_path / "cut.tif", reduced_level=True)
    end = move_tiles_to_the_end(slide, [5, 6]) + 100
    with slide.open("r+b") as file:
        file.truncate(end)
    done = pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5")
    assert done.returncode == 3
    with h5py.File(tmp_path / "out.h5") as file:
        level0 = file["levels/0"]
        unreadable = {tuple(index) for index in level0["index"][...][level0["decision"][...] == 2].tolist()}
    assert unreadable == {(col, row) for col in range(4, 12) for row in range(4, 8)}


def test_a_slide_without_tissue_gives_a_valid_empty_result_and_exit_0(tmp_path: Path, model: Path) -> None:
    slide = tissue_slide(tmp_path / "glass.tif", tissue=False)
    done = pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5")
    assert done.returncode == 0
    assert "no tissue" in done.stderr
    assert len(digest_of(tmp_path / "out.h5")) == 64
    with h5py.File(tmp_path / "out.h5") as file:
        assert all(len(file[f"levels/{n}/index"]) == 0 for n in range(3))
        assert not file["tissue/mask"][...].any()


def test_a_slide_smaller_than_a_tile_runs(tmp_path: Path) -> None:
    pixels = np.full((100, 90, 3), (150, 80, 160), np.uint8)
    path = tmp_path / "tiny.tif"
    tifffile.imwrite(
        path, pixels, tile=(64, 64), photometric="rgb", resolution=(40000, 40000), resolutionunit="CENTIMETER"
    )
    model = write_package(tmp_path / "m", side=224, thresholds=(0.5, 0.0, 0.0))
    assert pyramidai(path, "--model", model, "-o", tmp_path / "out.h5").returncode == 0
    with h5py.File(tmp_path / "out.h5") as file:
        assert [len(file[f"levels/{n}/index"]) for n in range(3)] == [1, 1, 1]
