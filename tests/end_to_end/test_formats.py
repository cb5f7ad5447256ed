"""Slides of other kinds than scanners write, by the real command: the same result as of a plain one, or one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import openslide
import pytest
import tifffile
from PIL import Image

from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package
from tests.tiffs import halved

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 64
GLASS = 244


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    """A purple square of 4 x 4 shades on glass, 1024 x 1024, and three halvings."""
    shades = np.random.default_rng(5).integers(0, 90, (4, 4)).repeat(192, axis=0).repeat(192, axis=1)
    image = np.full((1024, 1024, 3), GLASS, np.uint8)
    image[128:896, 128:896] = np.array([150, 80, 160]) - shades[..., None] // 2
    found = [image]
    for _ in range(3):
        found.append(halved(found[-1]))
    return found


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that zooms everywhere."""
    return write_package(tmp_path_factory.mktemp("model"), side=SIDE, thresholds=(0.5, 0.0, 0.0))


def write(path: Path, pages: list[np.ndarray], mpp: tuple[float, float] = (0.25, 0.25), **options: object) -> Path:
    """Tiled pages, all but the first said to be reduced."""
    resolution = (1e4 / mpp[0], 1e4 / mpp[1])
    options = {"photometric": "rgb", "tile": (128, 128), "compression": "zlib"} | options
    with tifffile.TiffWriter(path) as tiff:
        for n, page in enumerate(pages):
            tiff.write(
                page,
                subfiletype=int(n > 0),
                metadata=None,
                resolution=resolution,
                resolutionunit="CENTIMETER",
                **options,
            )
    return path


def tiles_in(result: Path) -> list[list[list]]:
    """All that is said of the tiles of each level, and the tissue mask."""
    with h5py.File(result) as file:
        names = ("index", "probability", "decision", "parent", "coords")
        found = [[file[f"levels/{n}/{name}"][...].tolist() for name in names] for n in range(3)]
        return [*found, [file["tissue/mask"][...].tolist()]]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, levels: list[np.ndarray], model: Path) -> list[list[list]]:
    """Tiles of the plain slide."""
    folder = tmp_path_factory.mktemp("plain")
    slide = write(folder / "slide.tif", levels)
    assert pyramidai(slide, "--model", model, "-o", folder / "out.h5").returncode == 0
    found = tiles_in(folder / "out.h5")
    assert len(found[0][0]) > 50
    return found


@pytest.mark.parametrize("reader", ["auto", "openslide"])
@pytest.mark.parametrize("size", [(300, 200), (384, 384)], ids=["wide", "as square as the slide"])
def test_a_picture_of_the_glass_within_the_file_changes_nothing(
    tmp_path: Path, levels: list[np.ndarray], plain: list[list[list]], model: Path, size: tuple[int, int], reader: str
) -> None:
    macro = np.full((size[1], size[0], 3), 250, np.uint8)
    slide = write(tmp_path / "slide.tif", [*levels[:2], macro])  # the smallest page, so the mask would come from it
    output = tmp_path / "out.h5"
    done = pyramidai(slide, "--model", model, "-o", output, "--reader", reader)
    assert done.returncode == 0
    assert f"{size[0]} x {size[1]}" in done.stderr
    assert tiles_in(output) == plain
    with h5py.File(output) as file, openslide.OpenSlide(slide) as handle:
        for level in range(3):
            group = file[f"levels/{level}"].attrs
            side = int(group["patch_size_level0"]) // int(group["patch_size"])
            assert handle.level_dimensions[int(group["patch_level"])] == (1024 // side, 1024 // side)


@pytest.mark.mpi
def test_on_three_ranks_it_is_the_same(
    tmp_path: Path, levels: list[np.ndarray], plain: list[list[list]], model: Path
) -> None:
    slide = write(tmp_path / "slide.tif", [*levels[:2], np.full((384, 384, 3), 250, np.uint8)])
    assert pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5", ranks=3).returncode == 0
    assert tiles_in(tmp_path / "out.h5") == plain


def test_damage_of_a_slide_with_another_page_of_its_size_is_exit_3(
    tmp_path: Path, levels: list[np.ndarray], model: Path
) -> None:
    noisy = levels[0] - np.random.default_rng(0).integers(0, 60, levels[0].shape).astype(np.uint8)
    slide = write(tmp_path / "slide.tif", [noisy, 255 - noisy, halved(noisy)], compression="jpeg")
    with tifffile.TiffFile(slide) as tiff:
        offset, count = tiff.pages[0].dataoffsets[9], tiff.pages[0].databytecounts[9]
    with slide.open("r+b") as file:
        file.seek(offset + count - 200)
        file.write(bytes(200))
    done = pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5", "--no-tissue", "--mode", "reference")
    assert done.returncode == 3


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_a_picture_without_tiles_has_the_result_of_a_slide(
    tmp_path: Path, levels: list[np.ndarray], plain: list[list[list]], model: Path, ending: str
) -> None:
    path = tmp_path / f"photograph.{ending}"
    if ending == "png":
        Image.fromarray(levels[0]).save(path)
    else:
        write(path, levels[:1], tile=None)
    done = pyramidai(path, "--model", model, "-o", tmp_path / "out.h5", "--mpp", "0.25")
    assert done.returncode == 0
    # from level 0 a coarser level is resampled where a slide stores it; here both are means of whole pixels
    found = tiles_in(tmp_path / "out.h5")
    assert [level[0] for level in found] == [level[0] for level in plain]
    assert found[0] == plain[0]


@pytest.mark.parametrize("options", [["--mpp", "0.25"], ["--levels", "scale"], ["table"]], ids=" ".join)
def test_what_the_user_says_of_the_spacing_beats_the_file(
    tmp_path: Path, levels: list[np.ndarray], plain: list[list[list]], model: Path, options: list[str]
) -> None:
    slide = write(tmp_path / "slide.tif", levels, mpp=(0.25, 10000))
    done = pyramidai(slide, "--model", model, "-o", tmp_path / "none.h5")
    assert done.returncode == 65
    assert "not square (0.25 x 10000 µm)" in done.stderr
    assert "--mpp" in done.stderr
    if options == ["table"]:
        (tmp_path / "slides.csv").write_text("wsi,mpp,output\nslide.tif,0.25,out.h5\n")
        done = pyramidai("run", "--slides", tmp_path / "slides.csv", "--model", model, "--results-dir", tmp_path)
    else:
        done = pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5", *options)
    assert done.returncode == 0
    assert tiles_in(tmp_path / "out.h5") == plain


def test_info_shows_what_is_wrong_with_a_slide(tmp_path: Path, levels: list[np.ndarray]) -> None:
    macro = np.full((384, 384, 3), 250, np.uint8)
    done = pyramidai("info", write(tmp_path / "slide.tif", [*levels, macro], mpp=(0.25, 10000)))
    assert done.returncode == 0
    assert "1024 x 1024 px" in done.stdout
    assert "not square (0.25 x 10000 µm): runs need --mpp" in done.stdout
    assert "left out: a page of 384 x 384 px" in done.stdout


def test_pictures_in_a_folder_are_no_slides_until_they_are_named(
    tmp_path: Path, levels: list[np.ndarray], model: Path
) -> None:
    folder, results = tmp_path / "slides", tmp_path / "results"
    folder.mkdir()
    results.mkdir()
    write(folder / "slide.tif", levels)
    Image.fromarray(levels[0]).save(folder / "overview.png")
    assert pyramidai("run", folder, "--model", model, "--results-dir", results, "--mpp", "0.25").returncode == 0
    assert sorted(path.name for path in results.glob("*.h5")) == ["slide.h5"]
    words = ["run", folder, folder / "overview.png", "--model", model, "--results-dir", results, "--mpp", "0.25"]
    assert pyramidai(*words).returncode == 0
    assert sorted(path.name for path in results.glob("*.h5")) == ["overview.h5", "slide.h5"]


@pytest.mark.parametrize("kind", ["grey", "float", "turned", "fourth channel"])
def test_what_holds_no_colours_is_exit_65_and_leaves_nothing(
    tmp_path: Path, levels: list[np.ndarray], model: Path, kind: str
) -> None:
    pages, options = {
        "grey": ([level[..., 1] for level in levels], {"photometric": "minisblack"}),
        "float": ([level.astype(np.float32) / 255 for level in levels], {}),
        "turned": (levels, {"extratags": [(274, 3, 1, 3, True)]}),
        "fourth channel": ([np.dstack([level, level[..., 0]]) for level in levels], {"extrasamples": ["unspecified"]}),
    }[kind]
    slide = write(tmp_path / "slide.tif", pages, **options)
    done = pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5")
    assert done.returncode == 65
    assert done.stderr.count("\n") == 1
    assert "slide.tif: it" in done.stderr
    assert "convert it: python -c" in done.stderr
    assert not (tmp_path / "out.h5").exists()
