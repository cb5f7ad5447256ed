"""A slide of odd sizes through the commands: one result with every reader, which says how its levels were read."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.slide_windows import opened_slide, window_reader
from pyramidai_mpi.store.patches.reader import PatchFile
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.packages import write_package
from tests.slides.test_odd_levels import decoded, part_of, reduced
from tests.tiffs import halved, write_slide

SIZE = (1001, 663)


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """The slide, and a package of three levels."""
    folder = tmp_path_factory.mktemp("odd")
    slide = write_slide(folder / "odd.tif", reduced(*SIZE, [halved, halved]), compression="zlib")
    return slide, write_package(folder / "model")


def analysed(odd, output, *options):
    slide, model = odd
    done = pyramidai("run", slide, "--model", model, "--no-tissue", "-o", output, *options)
    assert done.returncode == 0, done.stderr
    with h5py.File(output) as file:
        return digest_of(output), file["execution"].attrs["odd_levels"]


def test_every_reader_gives_one_result_and_the_other_way_another(odd, tmp_path):
    found = {
        (way, reader): analysed(odd, tmp_path / f"{way}-{reader}.h5", "--odd-levels", way, "--reader", reader)
        for way in ("own", "interpolated")
        for reader in ("tiff", "openslide")
    }
    assert found["own", "tiff"] == found["own", "openslide"] == analysed(odd, tmp_path / "default.h5")
    assert found["interpolated", "tiff"] == found["interpolated", "openslide"]
    assert found["own", "tiff"][0] != found["interpolated", "tiff"][0]
    assert {said for _, said in found.values()} == {"own", "interpolated"}
    output = tmp_path / "own-tiff.h5"
    done = pyramidai("run", odd[0], "--model", odd[1], "--no-tissue", "-o", output, "--resume", "--odd-levels",
                     "interpolated")  # fmt: skip
    assert done.returncode == 65
    assert "other --odd-levels (own, now interpolated)" in done.stderr


@pytest.mark.parametrize("way", ["own", "interpolated"])
def test_patches_of_an_odd_level_are_the_same_stored_decoded_and_read_from_the_slide(odd, tmp_path, way):
    slide, _ = odd
    found = {}
    for pixels in ("stored", "raw", "none"):
        folder = tmp_path / pixels
        folder.mkdir()
        done = pyramidai("patches", "extract", slide, "--level", "1", "--size", "64", "--no-tissue", "--pixels", pixels,
                         "--odd-levels", way, "-o", folder)  # fmt: skip
        assert done.returncode == 0, done.stderr
        with PatchFile(folder / "odd.patches.h5") as file:
            assert file.execution().attributes["odd_levels"] == way
            # interpolated pixels are in no stored tile
            assert file.header.settings.pixels == ("raw" if way == "interpolated" and pixels == "stored" else pixels)
            table = file.patches
            if pixels == "none":
                with opened_slide(slide, file) as reader:
                    read = window_reader(reader, file, table)
                    found[pixels] = [read(number) for number in range(len(table))]
        if pixels != "none":
            found[pixels] = list(open_patches(folder / "odd.patches.h5"))
    assert (np.array(found["stored"]) == found["raw"]).all()
    assert (np.array(found["none"]) == found["raw"]).all()
    image = decoded(slide)[1]
    expected = [part_of(image, (int(row["l0_x"]) // 2, int(row["l0_y"]) // 2), (64, 64)) for row in table]
    assert (np.array(expected) == found["raw"]).all() == (way == "own")
