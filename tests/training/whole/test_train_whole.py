"""From slides to a package: what is kept of slides, labels of every kind, the command, the graph it leaves."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from PIL import Image
from scipy import ndimage

pytest.importorskip("torch")

import onnxruntime
import torch

from pyramidai_mpi.base.errors import InputError, PyramidError, UsageError
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.cli.train_whole import command
from pyramidai_mpi.models.check import check_segmentation_network
from pyramidai_mpi.models.segmentation_package import load_segmentation_package
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import mpirun
from pyramidai_mpi.training.whole.architectures import new_whole_network
from pyramidai_mpi.training.whole.blocks import Box
from pyramidai_mpi.training.whole.export import to_onnx
from pyramidai_mpi.training.whole.images import darkness_of
from pyramidai_mpi.training.whole.keeping import ImageOrder, keep_slides
from pyramidai_mpi.truth.coverage import UNIT, cover_rings
from pyramidai_mpi.truth.pixel_labels import PixelLabels

SIZE = (1301, 1110)


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    return [
        write_slide(SynthSpec(*SIZE, seed=seed, mpp=1.0, tumor_share=0.0), folder / f"s{seed}.tif", threads=1).path
        for seed in (1, 2, 3)
    ]


def whole(size=SIZE) -> Box:
    return Box(0, 0, *size)


def test_what_is_kept_is_the_slide_and_the_recipe(slides, tmp_path) -> None:
    (kept,) = keep_slides(UnitPool(), slides[:1], ImageOrder(None), tmp_path)
    image = kept.image()
    pixels = tifffile.imread(slides[0], level=0)
    dark = image.darkness(whole())
    assert np.abs(dark.astype(int) - darkness_of(pixels)).max() <= 1  # libraries decode JPEG a little differently
    part = Box(513, 301, 777, 650)
    assert (image.darkness(part) == dark[301:650, 513:777]).all()

    reduced = np.array(
        [[dark[y : y + 8, x : x + 8].mean() for x in range(0, SIZE[0], 8)] for y in range(0, SIZE[1], 8)]
    )
    tissue = ndimage.median_filter((np.floor(reduced + 0.5) >= 25).astype(np.uint8), 5, mode="constant") > 0
    opened = ndimage.binary_opening(np.pad(tissue, 4, mode="edge"), np.ones((3, 3)))[4:-4, 4:-4]
    filled = ndimage.binary_fill_holes(opened)
    expected = np.kron(filled, np.ones((8, 8), bool))[: SIZE[1], : SIZE[0]]
    labels = image.labels(whole())
    assert 0.05 < expected.mean() < 0.95
    assert (labels == expected).mean() > 0.999
    assert (image.labels(part) == labels[301:650, 513:777]).all()
    assert image.cells[1, 2] == labels[256:512, 512:768].any()

    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sum(path.stat().st_size for path in tmp_path.glob("*s")) == -(-SIZE[0] // 8) * SIZE[1]
    keep_slides(UnitPool(), slides[:1], ImageOrder(None), tmp_path)
    assert before == {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}


def test_another_size_of_pixels_is_resampled(slides, tmp_path) -> None:
    (kept,) = keep_slides(UnitPool(), slides[:1], ImageOrder(None, um_px=3.0), tmp_path)
    assert kept.facts.size == (SIZE[0] // 3, SIZE[1] // 3)
    assert kept.facts.um_px == pytest.approx(3.0)
    pixels = tifffile.imread(slides[0], level=0)[: 3 * kept.facts.size[1], : 3 * kept.facts.size[0]]
    means = pixels.reshape(kept.facts.size[1], 3, kept.facts.size[0], 3, 3).mean(axis=(1, 3))
    dark = kept.image().darkness(whole(kept.facts.size))
    assert np.abs(dark - (255 - means @ (77 / 256, 150 / 256, 29 / 256))).max() < 2.5


def labels_of(folder, size=(24, 20), step=1.0, l0_size=(24, 20)):
    labels = PixelLabels(folder, "s.svs", l0_size, (0, 0), size, step)
    return np.concatenate([labels.rows(first, min(first + 7, size[1])) for first in range(0, size[1], 7)])


def test_masks_are_scaled_up_exactly(tmp_path) -> None:
    mask = np.random.default_rng(0).random((5, 6)) > 0.5
    expected = np.kron(mask, np.ones((4, 4), bool))
    Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "s.png")
    assert (labels_of(tmp_path) == expected).all()
    assert (labels_of(tmp_path, (12, 10), 2.0) == expected[::2, ::2]).all()
    (tmp_path / "s.png").unlink()
    tifffile.imwrite(tmp_path / "s_mask.tif", mask.astype(np.uint8) * 3)
    assert (labels_of(tmp_path) == expected).all()


def test_outlines_are_filled_where_they_cover_half_a_pixel(tmp_path) -> None:
    ring = [[2.0, 3.0], [20.5, 3.0], [20.5, 11.5], [2.0, 11.4], [2.0, 3.0]]
    feature = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [ring]},
               "properties": {"objectType": "annotation", "classification": {"name": "Tumor"}}}  # fmt: skip
    (tmp_path / "s.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    found = labels_of(tmp_path)
    expected = np.zeros((20, 24), bool)
    expected[3:11, 2:21] = True  # half a column, and less than half a row
    assert (found == expected).all()
    coarse = labels_of(tmp_path, (12, 10), 2.0)
    assert coarse[2:5, 1:10].all()
    assert not coarse[:1].any()


def test_a_band_of_rows_is_covered_as_in_the_whole() -> None:
    angles = np.linspace(0, 2 * np.pi, 40)
    ring = np.stack([30 + 25 * np.cos(angles), 30 + 28 * np.sin(3 * angles) * np.cos(angles)], axis=1)
    everything = cover_rings([ring], 1.3, (50, 50))
    bands = [cover_rings([ring], 1.3, (9, 50), first) for first in range(0, 45, 9)]
    assert (np.concatenate(bands) == everything[:45]).all()
    assert everything.max() == UNIT


def test_what_is_missing_is_said(slides, tmp_path) -> None:
    with pytest.raises(InputError, match="holds no truth for slide 's1'"):
        keep_slides(UnitPool(), slides[:1], ImageOrder(tmp_path), tmp_path)
    with pytest.raises(UsageError, match="see --level"):
        keep_slides(UnitPool(), slides[:1], ImageOrder(None, level=9), tmp_path)
    with pytest.raises(InputError, match="no such folder"):
        keep_slides(UnitPool(), slides[:1], ImageOrder(tmp_path / "none"), tmp_path)


def test_outlines_of_another_class_are_said_with_this_commands_option(slides, tmp_path) -> None:
    square = {"type": "Polygon", "coordinates": [[[9, 9], [99, 9], [99, 99], [9, 9]]]}
    named = {"objectType": "annotation", "classification": {"name": "fat"}}
    drawn = {"type": "Feature", "geometry": square, "properties": named}
    (tmp_path / "s1.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [drawn]}))
    said = r"of class fat, none known as tissue; name the class with --mask-class, or list .* when it has no tissue"
    with pytest.raises(InputError, match=said):
        keep_slides(UnitPool(), slides[:1], ImageOrder(tmp_path), tmp_path)


def test_a_copy_of_a_slide_is_refused_under_whatever_name(slides, tmp_path) -> None:
    copy = tmp_path / "other.tif"
    copy.write_bytes(slides[0].read_bytes())
    with pytest.raises(InputError, match=r"other\.tif: is the same picture as .*s1\.tif; leave one of them out"):
        keep_slides(UnitPool(), [slides[0], slides[1], copy], ImageOrder(None), tmp_path)


@pytest.mark.mpi
def test_slides_in_which_nothing_is_marked_are_refused(tmp_path, capsys) -> None:
    glass = np.full((256, 320, 3), 244, np.uint8)
    for name in "ab":
        glass[0, 0] = ord(name)
        Image.fromarray(glass).save(tmp_path / f"{name}.png")
    names = [os.fspath(tmp_path / f"{name}.png") for name in "ab"]
    out = tmp_path / "out"
    assert run_command_line(["train-whole", *names, "--masks", "tissue-recipe", "-q", "-o", os.fspath(out)]) == 65
    assert "nothing is marked in the 1 slide to learn from (" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("name", ["unet", "contrast"])
def test_the_graph_gives_what_torch_gives_for_images_of_any_multiple_of_the_stride(name) -> None:
    network, field = new_whole_network(name, 1)
    session = onnxruntime.InferenceSession(to_onnx(network, field, name))
    for height, width in ((32, 64), (224, 160)):
        pixels = np.random.default_rng(height).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
        (found,) = session.run(["probability"], {"pixels": pixels})
        dark = torch.from_numpy(darkness_of(pixels[0])).float()[None, None] / 255
        with torch.no_grad():
            expected = torch.sigmoid(network(dark))[:, 0].numpy()
        assert np.abs(found - expected).max() < 1e-6


@pytest.mark.mpi
def test_the_command_leaves_a_package_of_any_number_of_ranks(slides, tmp_path) -> None:
    names = [os.fspath(slide) for slide in slides]
    options = ["--masks", "tissue-recipe", "--crop", "800x704", "--block", "256x352", "--epochs", "2", "--steps", "3",
               "-q"]  # fmt: skip
    alone = mpirun(1, ["-m", "pyramidai_mpi", "train-whole", *names, *options, "-o", str(tmp_path / "alone")])
    assert alone.returncode == 0, alone.stderr
    start = ["-m", "pyramidai_mpi", "train-whole", *names, *options, "-o", str(tmp_path / "two")]
    two = mpirun(2, start)
    assert two.returncode == 0, two.stderr
    again = mpirun(2, start)
    assert again.returncode == 73
    assert "exists already" in again.stderr
    for name in ("network.onnx", "log.csv"):
        one, other = (tmp_path / folder / name for folder in ("alone", "two"))
        assert one.read_bytes() == other.read_bytes(), name

    package = load_segmentation_package(tmp_path / "two")
    check_segmentation_network(package)
    text = package.text
    assert (text.total_stride, text.halo, text.mpp, text.threshold) == (32, 160, pytest.approx(1.0), 0.5)
    # whatever begins at multiples of the stride is a part of the whole, but for the halo
    pixels = tifffile.imread(slides[0], level=0)[None, :1088, :1280]
    session = onnxruntime.InferenceSession(package.onnx_path)
    (everything,) = session.run(None, {"pixels": pixels})
    (part,) = session.run(None, {"pixels": pixels[:, 32:512, 96:736]})
    assert np.abs(part[0, 160:-160, 160:-160] - everything[0, 192:352, 256:576]).max() < 1e-5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--masks", "tissue-recipe", "--crop", "64000"], "--crop 64000: expected pixels across and down"),
        (["--masks", "tissue-recipe", "--block", "0x32"], "--block 0x32: expected pixels"),
        (["--masks", "tissue-recipe", "--mpp", "1", "--level", "1"], "--mpp and --level both"),
        (["--masks", "tissue-recipe", "--mask-class", "fat"], "for a folder of masks"),
        (["--masks", "tissue-recipe", "{slide}"], "named twice"),
    ],
)
def test_options_that_make_no_sense_are_one_line(slides, tmp_path, arguments, says) -> None:
    words = [word.format(slide=slides[0]) for word in arguments]
    done = CliRunner().invoke(command, [os.fspath(slides[0]), *words, "-o", os.fspath(tmp_path / "p")])
    assert isinstance(done.exception, PyramidError)
    assert says in str(done.exception)
    assert "\n" not in str(done.exception)
