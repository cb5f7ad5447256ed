"""Gradients of the networks that train-slides writes, group norm and attention in them, against torch in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from pyramidai_mpi.models.aggregator_entry import AggregatorMethod
from pyramidai_mpi.models.backward.engine import GradientEngine
from pyramidai_mpi.models.package import ModelLevel, load_package
from pyramidai_mpi.models.shipped import default_model
from pyramidai_mpi.training.networks.group_norm import new_encoder
from pyramidai_mpi.training.slides.aggregators import new_aggregator
from pyramidai_mpi.training.slides.heads import BinaryHead, ClassesHead
from pyramidai_mpi.training.slides.package import tile_graph
from tests.training.slides.bags_in_memory import networks

SIDE = 48


@pytest.mark.parametrize(
    ("encoder", "method", "head"),
    [
        ("small-gn", "transformer", BinaryHead(("a", "b"))),
        ("resnet18-gn", "abmil", ClassesHead(("a", "b", "c"), "c")),
    ],
)
def test_gradients_of_a_tile_as_a_slide_are_torchs(encoder, method, head, tmp_path) -> None:
    body, aggregator = networks(method, head)
    if encoder != "small-gn":
        body = new_encoder(encoder, 1).eval()
        aggregator = new_aggregator(AggregatorMethod(method), body.n_features, head.n_logits, 1).eval()
    (tmp_path / "n.onnx").write_bytes(tile_graph(body, aggregator, head, SIDE))
    level = ModelLevel(0, tmp_path / "n.onnx", 0.5, "0" * 64)
    package = replace(load_package(default_model(), check_files=False), tile_size=SIDE, levels=(level,))
    engine = GradientEngine(level, package)
    tile = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3)).astype(np.float32)
    given = torch.from_numpy(tile).double().requires_grad_()
    logits = aggregator.double().eval()(body.double().eval()(given)[:, None])[0]
    wanted = torch.autograd.grad(logits[-1], given)[0].numpy()
    found = engine.input_gradients(tile, len(head.tile_classes) - 1)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert engine.layers[0].shape == {"small-gn": (64, 3, 3), "resnet18-gn": (512, 2, 2)}[encoder]
