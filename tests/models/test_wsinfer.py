"""A folder of the WSInfer zoo with an ONNX file is a model of one level."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import onnx
import openslide
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.check import check_network
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.wsinfer import load_wsinfer
from pyramidai_mpi.run.networks import open_package
from tests.end_to_end.conftest import pyramidai
from tests.end_to_end.test_damage import tissue_slide

if TYPE_CHECKING:
    from pathlib import Path

MEAN, STD = (0.7, 0.5, 0.6), (0.2, 0.1, 0.25)
CONFIG: dict[str, Any] = {
    "spec_version": "1.0",
    "architecture": "colour",
    "num_classes": 2,
    "class_names": ["notumor", "tumor"],
    "patch_size_pixels": 96,
    "spacing_um_px": 0.25,
    "transform": [
        {"name": "Resize", "arguments": {"size": 48}},
        {"name": "ToTensor"},
        {"name": "Normalize", "arguments": {"mean": list(MEAN), "std": list(STD)}},
    ],
}
WEIGHTS = np.array([[0.2, -0.3], [0.1, 0.4], [-0.5, 0.2]], np.float32)


def zoo_folder(folder: Path, **changes: Any) -> Path:
    """A network from mean colour to logits, NCHW, with its config."""
    n_classes = len(changes.get("class_names", CONFIG["class_names"]))
    weights = np.resize(WEIGHTS, (3, n_classes)).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 48, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", n_classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    return folder


def by_hand(pixels: np.ndarray) -> np.ndarray:
    """The probabilities of uint8 (n, side, side, 3), as torchvision's transforms and a softmax make them."""
    normalised = (pixels.astype(np.float64) / 255 - MEAN) / STD
    logits = normalised.mean(axis=(1, 2)) @ WEIGHTS.astype(np.float64)
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def test_the_tile_is_what_the_network_sees(tmp_path: Path) -> None:
    package = load_wsinfer(zoo_folder(tmp_path))
    assert (package.tile_size, package.base_mpp, package.n_levels) == (48, 0.5, 1)
    assert package.classes == ("notumor", "tumor")
    assert package.positive_class == 1
    check_network(package.levels[0], package)


def test_pixels_are_normalised_and_logits_made_probabilities(tmp_path: Path) -> None:
    package = load_wsinfer(zoo_folder(tmp_path))
    pixels = np.random.default_rng(0).integers(0, 256, (7, 48, 48, 3), np.uint8)
    found, features = OnnxEngine(package.levels[0], package).predict(pixels)
    assert features is None
    np.testing.assert_allclose(found, by_hand(pixels), atol=1e-5)


def test_of_many_classes_the_caller_names_the_positive_one(tmp_path: Path) -> None:
    package = load_wsinfer(zoo_folder(tmp_path, num_classes=3, class_names=["grade3", "grade4+5", "benign"]))
    with pytest.raises(UsageError, match="--positive-class"):
        package.with_positive_class(None)
    with pytest.raises(UsageError, match="grade9"):
        package.with_positive_class("grade9")
    assert package.with_positive_class("grade4+5").score_column == 1


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"num_classes": 3}, "num_classes"),
        ({"class_names": ["tumor", "tumor"]}, "class_names"),
        ({"patch_size_pixels": 0}, "patch_size_pixels"),
        ({"patch_size_pixels": "350"}, "patch_size_pixels"),
        ({"spacing_um_px": -1}, "spacing_um_px"),
        ({"spacing_um_px": None}, "spacing_um_px"),
        ({"transform": []}, "transform"),
        ({"transform": [{"name": "ToTensor"}, {"name": "Resize", "arguments": {"size": 48}}]}, "order"),
        ({"transform": [{"name": "GaussianBlur"}, {"name": "ToTensor"}]}, "transform"),
        (
            {"transform": [{"name": "ToTensor"}, {"name": "Normalize", "arguments": {"mean": [0.5], "std": [1]}}]},
            "three",
        ),
        ({"transform": "ToTensor"}, "transform"),
    ],
)
def test_a_config_that_does_not_fit_is_named(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    zoo_folder(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(InputError, match=what) as caught:
        load_wsinfer(tmp_path)
    assert "config.json" in str(caught.value)


def test_a_network_of_another_shape_is_named(tmp_path: Path) -> None:
    zoo_folder(tmp_path, transform=[{"name": "Resize", "arguments": {"size": 64}}, {"name": "ToTensor"}])
    with pytest.raises(InputError, match=r"model\.onnx.*\(any, 3, 64, 64\)"):
        open_package(tmp_path, check_networks=True)


def test_the_command_runs_it_and_a_few_lines_of_pillow_agree(tmp_path: Path) -> None:
    slide, model = tissue_slide(tmp_path / "s.tif"), zoo_folder(tmp_path / "zoo")
    assert pyramidai(slide, "--model", model, "-o", tmp_path / "out.h5").returncode == 0
    with h5py.File(tmp_path / "out.h5") as file, openslide.OpenSlide(slide) as handle:
        assert list(file["levels"]) == ["0"]
        level0 = file["levels/0"]
        side = int(level0.attrs["patch_size_level0"])
        assert side == 96
        for row in range(0, len(level0["coords"]), 9):
            region = handle.read_region(tuple(level0["coords"][row].tolist()), 0, (side, side)).convert("RGB")
            pixels = np.asarray(region.resize((48, 48), Image.Resampling.BOX))
            # half a grey level of rounding, on three colours of weights up to 0.5 / 0.1
            np.testing.assert_allclose(level0["probability"][row], by_hand(pixels[None])[0], atol=5e-3)
