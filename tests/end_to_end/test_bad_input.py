"""A mistake gets one line that says what, where and what to do; no file, no traceback, the exit code of the design."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile
import yaml

from tests.end_to_end.conftest import pyramidai
from tests.packages import write_package

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 64


def small_slide(path: Path, *, mpp: float | None = 0.25) -> Path:
    """A plain tiled TIFF, purple in its middle, with or without a pixel size."""
    pixels = np.full((512, 768, 3), 245, np.uint8)
    pixels[100:400, 100:600] = (150, 80, 160)
    resolution = {} if mpp is None else {"resolution": (1e4 / mpp, 1e4 / mpp), "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", compression="jpeg", **resolution)
    return path


def rewritten(folder: Path, change: Callable[[dict], None]) -> Path:
    """The package in `folder` with its YAML changed."""
    document = yaml.safe_load((folder / "model.yaml").read_text())
    change(document)
    (folder / "model.yaml").write_text(yaml.safe_dump(document))
    return folder


def make_no_slide(folder: Path) -> list[str | Path]:
    (folder / "notes.tif").write_text("these are notes, not a slide")
    return [folder / "notes.tif"]


def make_missing_slide(folder: Path) -> list[str | Path]:
    return [folder / "gone.tif"]


def make_cut_slide(folder: Path) -> list[str | Path]:
    path = small_slide(folder / "cut.tif")
    path.write_bytes(path.read_bytes()[:100])
    return [path]


def make_slide_without_mpp(folder: Path) -> list[str | Path]:
    return [small_slide(folder / "plain.tif", mpp=None)]


def make_coarse_slide(folder: Path) -> list[str | Path]:
    return [small_slide(folder / "coarse.tif", mpp=0.5)]


def make_model_without_a_level(folder: Path) -> list[str | Path]:
    model = write_package(folder / "m", side=SIDE)
    (model / "level1.onnx").unlink()
    return [small_slide(folder / "s.tif"), "--model", model]


def make_wrong_input_shape(folder: Path) -> list[str | Path]:
    model = rewritten(write_package(folder / "m", side=SIDE), lambda document: document.update(tile_size=SIDE * 2))
    return [small_slide(folder / "s.tif"), "--model", model]


def make_wrong_class_count(folder: Path) -> list[str | Path]:
    model = rewritten(
        write_package(folder / "m", side=SIDE), lambda document: document.update(classes=["normal", "tumor", "other"])
    )
    return [small_slide(folder / "s.tif"), "--model", model]


def make_unknown_key(folder: Path) -> list[str | Path]:
    model = rewritten(write_package(folder / "m", side=SIDE), lambda document: document.update(tilesize=3))
    return [small_slide(folder / "s.tif"), "--model", model]


def make_threshold_of_seven(folder: Path) -> list[str | Path]:
    model = rewritten(
        write_package(folder / "m", side=SIDE), lambda document: document["levels"][1].update(threshold=7)
    )
    return [small_slide(folder / "s.tif"), "--model", model]


def make_logits(folder: Path) -> list[str | Path]:
    return [small_slide(folder / "s.tif"), "--model", write_package(folder / "m", side=SIDE, softmax=False, gain=50.0)]


BAD_INPUTS = [
    (make_no_slide, "notes.tif", "not a whole-slide image"),
    (make_missing_slide, "gone.tif", "no such slide"),
    (make_cut_slide, "cut.tif", "slide"),
    (make_slide_without_mpp, "plain.tif", "--mpp"),
    (make_coarse_slide, "coarse.tif", "--allow-upsampling"),
    (make_model_without_a_level, "level1.onnx", "missing"),
    (make_wrong_input_shape, "level0.onnx", "(any, 128, 128, 3)"),
    (make_wrong_class_count, "level0.onnx", "(any, 3)"),
    (make_unknown_key, "model.yaml", "tilesize"),
    (make_threshold_of_seven, "model.yaml", "threshold"),
    (make_logits, "level0.onnx", "probabilities"),
]
NAMES = [make.__name__.removeprefix("make_").replace("_", " ") for make, _, _ in BAD_INPUTS]


def with_model(arguments: list[str | Path], folder: Path) -> list[str | Path]:
    """The arguments, with a sound model where they name none."""
    return arguments if "--model" in arguments else [*arguments, "--model", write_package(folder / "sound", side=SIDE)]


def assert_one_line(text: str, *words: str) -> None:
    lines = [line for line in text.splitlines() if line.strip()]
    assert len(lines) == 1, text
    assert lines[0].startswith("pyramidai: error: ")
    for word in words:
        assert word in lines[0]


@pytest.mark.parametrize(("make", "where", "what"), BAD_INPUTS, ids=NAMES)
def test_bad_input_is_exit_65_with_one_line_and_no_file(
    make: Callable[[Path], list[str | Path]], where: str, what: str, tmp_path: Path
) -> None:
    arguments = with_model(make(tmp_path), tmp_path)
    output = tmp_path / "results" / "out.h5"
    output.parent.mkdir()
    done = pyramidai(*arguments, "-o", output)
    assert done.returncode == 65
    assert_one_line(done.stderr, where, what)
    assert list(output.parent.iterdir()) == []


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("make", "where", "what"), [BAD_INPUTS[0], BAD_INPUTS[3], BAD_INPUTS[10]], ids=[NAMES[0], NAMES[3], NAMES[10]]
)
def test_on_three_ranks_all_leave_with_the_same_code_and_one_speaks(
    make: Callable[[Path], list[str | Path]], where: str, what: str, tmp_path: Path
) -> None:
    done = pyramidai(*with_model(make(tmp_path), tmp_path), "-o", tmp_path / "out.h5", ranks=3)
    assert done.returncode == 65
    ours = [line for line in done.stderr.splitlines() if line.startswith("pyramidai:")]
    assert_one_line("\n".join(ours), where, what)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(
    ("options", "what"),
    [
        (["--threshold", "1=7"], "[0, 1]"),
        (["--threshold", "high"], "LEVEL=VALUE"),
        (["--threshold", "1=0.2", "--threshold", "1=0.3"], "twice"),
        (["--mpp", "0"], "--mpp"),
        (["--batch-size", "0"], "--batch-size"),
        (["--mode", "fast"], "--mode"),
        (["--no-such-option"], "--no-such-option"),
        (["-o", "a.h5", "--results-dir", "."], "--results-dir"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_is_exit_64(options: list[str], what: str, tmp_path: Path) -> None:
    done = pyramidai(*with_model([small_slide(tmp_path / "s.tif"), *options], tmp_path), cwd=tmp_path)
    assert done.returncode == 64
    assert_one_line(done.stderr, what)
    assert not list(tmp_path.glob("*.h5"))


def test_two_slides_with_one_output_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        small_slide(tmp_path / name / "s.tif")
    done = pyramidai(*with_model([tmp_path / "a" / "s.tif", tmp_path / "b" / "s.tif"], tmp_path), cwd=tmp_path)
    assert done.returncode == 64
    assert_one_line(done.stderr, "s.h5")


def test_an_existing_output_is_exit_73_and_stays_untouched_until_overwrite_is_said(tmp_path: Path) -> None:
    slide = small_slide(tmp_path / "s.tif")
    model = write_package(tmp_path / "m", side=SIDE)
    output = tmp_path / "out.h5"
    output.write_text("dear to somebody")
    done = pyramidai(slide, "--model", model, "-o", output)
    assert done.returncode == 73
    assert_one_line(done.stderr, "out.h5", "--overwrite")
    assert output.read_text() == "dear to somebody"
    assert pyramidai(slide, "--model", model, "-o", output, "--overwrite").returncode == 0
    assert pyramidai("digest", output).returncode == 0


def test_a_missing_results_folder_is_exit_74(tmp_path: Path) -> None:
    arguments = with_model([small_slide(tmp_path / "s.tif")], tmp_path)
    done = pyramidai(*arguments, "-o", tmp_path / "nowhere" / "out.h5")
    assert done.returncode == 74
    assert_one_line(done.stderr, "nowhere")


def test_of_several_slides_a_bad_one_does_not_end_the_others(tmp_path: Path) -> None:
    good = small_slide(tmp_path / "good.tif")
    bad = shutil.copy(good, tmp_path / "bad.tif")
    Path(bad).write_bytes(b"no slide")
    model = write_package(tmp_path / "m", side=SIDE)
    done = pyramidai(bad, good, "--model", model, "--results-dir", tmp_path)
    assert done.returncode == 4
    assert (tmp_path / "good.h5").exists()
    assert not (tmp_path / "bad.h5").exists()
    assert "bad.tif" in done.stderr
