"""CLAM and TRIDENT read the coordinates that we export as they read their own, and get our patches."""

from __future__ import annotations

import csv

import h5py
import numpy as np
import openslide
import pytest
from PIL import Image

from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.database import open_patches
from tests.patch_files import order_of, write_patches_of
from tests.tiffs import write_slide


def export(*words: object) -> int:
    return run_command_line(["patches", "export", *map(str, words)])


class ClamBag:
    """What CLAM's Whole_Slide_Bag_FP does (dataset_modules/dataset_h5.py)."""

    def __init__(self, path, slide):
        self.file, self.slide = h5py.File(path), slide
        self.level, self.size = (self.file["coords"].attrs[name] for name in ("patch_level", "patch_size"))

    def __len__(self):
        return len(self.file["coords"])

    def __getitem__(self, number):
        coord = self.file["coords"][number]
        return np.asarray(self.slide.read_region(coord, self.level, (self.size, self.size)).convert("RGB")), coord


class TridentPatcher:
    """What TRIDENT makes of coordinates (IO.read_coords, WSI.extract_patch_features, WSIPatcher)."""

    def __init__(self, path, slide):
        with h5py.File(path) as file:
            attributes, self.coords = dict(file["coords"].attrs), file["coords"][:]
        self.slide, self.size = slide, attributes["patch_size"]
        source, target = 10 / attributes["level0_magnification"], 10 / attributes["target_magnification"]
        self.downsample = target / source
        self.size_at_level0 = round(self.size * self.downsample)
        assert attributes["patch_size_level0"] == self.size_at_level0
        self.level = next(
            (n for n, each in enumerate(slide.level_downsamples) if abs(each - self.downsample) <= 0.1),
            max(n for n, each in enumerate(slide.level_downsamples) if each <= self.downsample),
        )

    def __len__(self):
        return len(self.coords)

    def __getitem__(self, number):
        side = round(self.size_at_level0 / int(self.slide.level_downsamples[self.level]))
        x, y = self.coords[number].tolist()
        assert x < self.slide.dimensions[0]
        assert y < self.slide.dimensions[1]
        tile = self.slide.read_region((x, y), self.level, (side, side)).convert("RGB")
        return np.asarray(tile.resize((self.size, self.size))), self.coords[number]


@pytest.fixture(scope="module", params=[0, 1], ids="level {}".format)
def at_level(request, tmp_path_factory, stored_images):
    """Slides, one file of patches of a stored level, and both exports of it."""
    folder = tmp_path_factory.mktemp("exports")
    slide = write_slide(folder / "slide.v2.tif", stored_images, compression="zlib")
    path = write_patches_of(slide, folder / "slide.v2.patches.h5", order_of(level=request.param))
    assert export(path, "--clam", folder / "clam", "--trident", folder / "trident") == 0
    return folder, slide, path


@pytest.mark.parametrize(
    ("reader", "file"),
    [(ClamBag, "clam/patches/slide.v2.h5"), (TridentPatcher, "trident/patches/slide.v2_patches.h5")],
    ids=["CLAM", "TRIDENT"],
)
def test_what_they_read_is_the_patch(at_level, reader, file):
    folder, slide_path, path = at_level
    with openslide.OpenSlide(slide_path) as slide, open_patches(path) as patches:
        bag = reader(folder / file, slide)
        assert len(bag) == len(patches) > 40
        for number in range(len(patches)):
            pixels, coord = bag[number]
            np.testing.assert_array_equal(coord, patches.coords[number])
            if patches.table["inside"][number] == 1:
                np.testing.assert_array_equal(pixels, patches[number])


def test_clam_finds_the_file_by_its_list_of_slides(at_level):
    folder, slide, _ = at_level
    with (folder / "clam" / "process_list_autogen.csv").open() as table:
        rows = list(csv.DictReader(table))
    # extract_features_fp.py: the name without the ending says the file of coordinates, and with it that of the slide
    (slide_id,) = [row["slide_id"].split(".tif")[0] for row in rows]
    assert (folder / "clam" / "patches" / f"{slide_id}.h5").is_file()
    assert slide.with_name(f"{slide_id}.tif") == slide


def test_files_say_what_theirs_say_and_nothing_else(at_level):
    folder, _, path = at_level
    with h5py.File(folder / "clam/patches/slide.v2.h5") as file:
        clam, coords = dict(file["coords"].attrs), file["coords"]
        assert list(file) == ["coords"]
        assert coords.dtype == np.int64
        assert coords.maxshape == (None, 2)
    with h5py.File(folder / "trident/patches/slide.v2_patches.h5") as file:
        trident = dict(file["coords"].attrs)
        assert list(file) == ["coords"]
        assert file["coords"].dtype == np.int64
    with open_patches(path) as patches:
        level = patches.header.settings.stored_level
    # wsi_core/WholeSlideImage.py, process_contour
    assert {name: np.asarray(value).tolist() for name, value in clam.items()} == {
        "patch_size": 96,
        "patch_level": level,
        "downsample": [2.0**level] * 2,
        "downsampled_level_dim": [1024 >> level, 768 >> level],
        "level_dim": [1024 >> level, 768 >> level],
        "name": "slide.v2",
        "save_path": "patches",
    }
    # trident/IO.py, coords_to_h5
    assert {name: np.asarray(value).tolist() for name, value in trident.items()} == {
        "patch_size": 96,
        "patch_size_level0": 96 << level,
        "level0_magnification": 40,
        "target_magnification": 40 >> level,
        "overlap": 32,
        "name": "slide.v2",
        "savetodir": "patches",
        "level0_width": 1024,
        "level0_height": 768,
    }
    whole = ("patch_size", "patch_size_level0", "level0_magnification", "target_magnification", "overlap")
    assert all(isinstance(trident[name], np.integer) for name in whole)


def test_of_resampled_patches_both_read_the_area_and_it_is_said(tmp_path, stored_images, capsys):
    slide_path = write_slide(tmp_path / "slide.tif", stored_images, compression="zlib")
    path = write_patches_of(slide_path, tmp_path / "a.patches.h5", order_of(48, 32, mpp=0.35))
    assert export(path, "--clam", tmp_path / "clam", "--trident", tmp_path / "trident") == 0
    said = capsys.readouterr().out
    assert "CLAM reads 67 px of stored level 0 for a patch of 48 px" in said
    assert "reach beyond the slide" in said
    with openslide.OpenSlide(slide_path) as slide, open_patches(path) as patches:
        number = int(np.flatnonzero(patches.table["inside"] == 1)[5])
        clam, trident = (
            ClamBag(tmp_path / "clam/patches/slide.h5", slide),
            TridentPatcher(tmp_path / "trident/patches/slide_patches.h5", slide),
        )
        assert clam[number][0].shape == (67, 67, 3)  # 48 * 0.35 / 0.25 = 67.2
        assert trident[number][0].shape == (48, 48, 3)
        shrunk = np.asarray(Image.fromarray(clam[number][0]).resize((48, 48), Image.Resampling.BOX), int)
        assert np.abs(shrunk - patches[number]).mean() < 4
        assert np.abs(trident[number][0].astype(int) - patches[number]).mean() < 6


def test_a_slide_without_patches_has_an_empty_file_for_trident_and_none_for_clam(tmp_path, stored_images, capsys):
    slide = write_slide(tmp_path / "slide.tif", stored_images)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of(), mask=np.zeros((8, 8), bool))
    assert export(path, "--clam", tmp_path / "clam", "--trident", tmp_path / "trident") == 0
    assert "slide: holds no patch, and CLAM has no file for that" in capsys.readouterr().out
    assert not list((tmp_path / "clam").rglob("*.h5"))
    with h5py.File(tmp_path / "trident/patches/slide_patches.h5") as file:
        assert file["coords"].shape == (0, 2)


def test_coordinates_need_no_pixels(made, tmp_path):
    assert export(made.bare, "--clam", tmp_path / "clam") == 0
    with h5py.File(tmp_path / "clam/patches/patient_024_node_4.h5") as file, open_patches(made.bare) as patches:
        np.testing.assert_array_equal(file["coords"][:], patches.coords)


def test_an_ome_tiff_is_called_as_each_of_them_calls_it(tmp_path, stored_images):
    slide = write_slide(tmp_path / "a.ome.tif", stored_images)
    path = write_patches_of(slide, tmp_path / "a.patches.h5", order_of())
    assert export(path, "--clam", tmp_path / "clam", "--trident", tmp_path / "trident") == 0
    assert [each.name for each in (tmp_path / "clam" / "patches").iterdir()] == ["a.ome.h5"]
    assert [each.name for each in (tmp_path / "trident" / "patches").iterdir()] == ["a_patches.h5"]
