"""A package computes what torch has learnt, for any number of tiles; package encoders answer as their graphs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

pytest.importorskip("torch")

import torch

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod, SlideTask
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.write import PackageText, write_package
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.testing.launch import REPOSITORY
from pyramidai_mpi.training.networks.compact import new_network
from pyramidai_mpi.training.networks.export import to_onnx
from pyramidai_mpi.training.networks.group_norm import new_encoder
from pyramidai_mpi.training.slides.aggregators import new_aggregator
from pyramidai_mpi.training.slides.fit import SlideFit
from pyramidai_mpi.training.slides.heads import BinaryHead, ClassesHead, ShareHead, SurvivalHead
from pyramidai_mpi.training.slides.joint import JointGradients
from pyramidai_mpi.training.slides.package import slide_graph, tile_graph
from pyramidai_mpi.training.slides.package_encoder import OnnxEncoder
from pyramidai_mpi.training.slides.plan import SlidePlan, package_of
from tests.packages import write_package as write_colour_package
from tests.packages import write_position_package
from tests.training.slides.bags_in_memory import HEAD, SIDE, PixelArrays, case_of, draw_of, networks, source_of

HEADS = {
    "binary": BinaryHead(("a", "b")),
    "classes": ClassesHead(("a", "b", "c"), "c"),
    "share": ShareHead(),
    "survival": SurvivalHead(),
}


def answers(graph: bytes, given: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (only,) = session.get_inputs()
    return dict(zip([one.name for one in session.get_outputs()], session.run(None, {only.name: given}), strict=True))


@pytest.mark.parametrize(("method", "task"), [("abmil", "classes"), ("mean", "share"), ("transformer", "binary")])
def test_the_aggregators_graph_is_torch_for_any_number_of_tiles(method, task) -> None:
    head = HEADS[task]
    _, aggregator = networks(method, head)
    graph = slide_graph(aggregator, head, 128)
    for n in (1, 2, 7, 500):
        features = np.random.default_rng(n).normal(size=(n, 128)).astype(np.float32)
        found = answers(graph, features)
        assert list(found) == ["prediction", "attention", "contribution", "constant"]
        with torch.no_grad():
            logits = aggregator(torch.from_numpy(features)[None])
            expected = head.prediction(logits)[0].numpy()
        assert found["prediction"].shape == (len(head.classes),)
        assert found["prediction"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert found["attention"].shape[0] == n
        assert found["attention"].sum(0) == pytest.approx(1.0, abs=1e-5)
        assert found["contribution"].shape == (n, head.n_logits)
        total = found["contribution"].sum(0, dtype=np.float64) + found["constant"]
        assert total == pytest.approx(logits[0].numpy(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("task", list(HEADS))
def test_a_tiles_probabilities_are_those_of_a_slide_of_this_tile_alone(task) -> None:
    head = HEADS[task]
    encoder, aggregator = networks("transformer", head)
    tiles = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), np.uint8)
    found = answers(tile_graph(encoder, aggregator, head, SIDE), tiles)
    graph = slide_graph(aggregator, head, 128)
    for row, features in zip(found["probabilities"], found["features"], strict=True):
        alone = answers(graph, features[None])["prediction"]
        expected = {
            "share": [1 - alone[0], alone[0]],
            "survival": [1 / (1 + np.exp(alone[0])), 1 / (1 + np.exp(-alone[0]))],
        }.get(task, alone)
        assert row == pytest.approx(np.array(expected), abs=1e-5)
        assert row.shape == (len(head.tile_classes),)
    with torch.no_grad():
        assert found["features"] == pytest.approx(encoder(torch.from_numpy(tiles)).numpy(), rel=1e-4, abs=1e-5)


def test_the_deeper_encoder_gives_512_features_and_starts_from_weights(tmp_path) -> None:
    encoder = new_encoder("resnet18-gn", 1)
    tiles = torch.zeros((2, 64, 64, 3), dtype=torch.uint8)
    assert encoder(tiles).shape == (2, 512)
    assert sum(p.numel() for p in encoder.parameters()) == 11_176_512  # ResNet18 without its last layer
    torch.save(new_encoder("small-gn", 4).state_dict(), tmp_path / "weights.pt")
    started = new_encoder("small-gn", 1, tmp_path / "weights.pt")
    assert all(
        (a == b).all() for a, b in zip(started.parameters(), new_encoder("small-gn", 4).parameters(), strict=True)
    )
    with pytest.raises(InputError, match="holds no weights of resnet18-gn"):
        new_encoder("resnet18-gn", 1, tmp_path / "weights.pt")
    with pytest.raises(UsageError, match="no encoder 'vit'"):
        new_encoder("vit", 1)


@pytest.fixture(scope="module")
def trained_here(tmp_path_factory):
    """A package as `train` writes them, with batch norm folded."""
    network = new_network(3).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    folder = tmp_path_factory.mktemp("package") / "m"
    write_package(folder, PackageText("m", tile_size=64).document(1), [to_onnx(network, 64)])
    return folder, network


def test_a_packages_encoder_is_its_network_and_learns_by_plain_autograd(trained_here) -> None:
    folder, network = trained_here
    encoder = OnnxEncoder(load_package(folder))
    tiles = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (4, 64, 64, 3), np.uint8))
    assert encoder.n_features == 128
    assert torch.allclose(encoder(tiles), network.features(tiles), rtol=1e-4, atol=1e-5)
    # of each of the five convolutions a kernel and a bias learn; in the original their like is kernel and shift
    assert len(list(encoder.parameters())) == 10
    encoder(tiles).square().sum().backward()
    network.features(tiles).square().sum().backward()
    biases = [p.grad for p in encoder.parameters() if p.ndim == 1]
    shifts = [m.bias.grad for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for bias, shift in zip(biases, shifts, strict=True):
        assert torch.allclose(bias, shift, rtol=1e-3, atol=1e-3 * shift.abs().max())
    found = answers(to_onnx(_Twice(encoder), 64), tiles.numpy())
    assert found["features"] == pytest.approx(encoder(tiles).detach().numpy(), rel=1e-4, abs=1e-5)


class _Twice(torch.nn.Module):
    def __init__(self, encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, tiles):
        features = self.encoder(tiles)
        return features * 1.0, features


def test_the_shipped_networks_can_learn() -> None:
    for name in ("small", "small-valid"):
        assert OnnxEncoder(load_package(REPOSITORY / "models" / name)).n_features in {64, 128}


def test_a_shipped_network_is_found_by_its_name_and_a_folder_of_that_name_goes_first(
    trained_here, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    plan = SlidePlan((), (), Path("l.csv"), SlideTask.BINARY, 1, "small", AggregatorMethod.MEAN, SlideFit())
    assert package_of(plan).folder == REPOSITORY / "models" / "small"
    shutil.copytree(trained_here[0], tmp_path / "small")
    assert package_of(plan).name == "m"
    with pytest.raises(UsageError, match=r"--encoder nothing: expected small-gn, .*or a shipped one \(.*small"):
        package_of(replace(plan, encoder="nothing"))


@pytest.mark.parametrize("name", ["small-gn", "resnet18-gn"])
def test_the_encoders_of_packages_that_were_made_here_learn_on_by_plain_autograd(tmp_path, name) -> None:
    encoder = new_encoder(name, 1)
    with torch.no_grad():
        for module in encoder.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.2, 0.2)
    aggregator = new_aggregator(AggregatorMethod.MEAN, encoder.n_features, 1, 0)
    graph = tile_graph(encoder, aggregator, HEADS["binary"], 64)
    write_package(tmp_path / "m", PackageText("m", tile_size=64).document(1), [graph])
    found = OnnxEncoder(load_package(tmp_path / "m"))
    tiles = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), np.uint8))
    assert torch.allclose(found(tiles), encoder(tiles), rtol=1e-4, atol=1e-5)
    own, others = list(found.parameters()), list(encoder.parameters())
    assert sorted(one.numel() for one in own) == sorted(one.numel() for one in others)
    found(tiles).square().sum().backward()
    encoder(tiles).square().sum().backward()
    norms = [sorted(one.grad.norm().item() for one in each) for each in (own, others)]
    assert norms[0] == pytest.approx(norms[1], rel=5e-3)
    again = answers(tile_graph(found, aggregator, HEADS["binary"], 64), tiles.numpy())
    assert again["features"] == pytest.approx(encoder(tiles).detach().numpy(), rel=1e-4, abs=1e-5)


def test_what_cannot_learn_is_refused_with_the_reason(tmp_path) -> None:
    write_colour_package(tmp_path / "plain", n_levels=1)
    with pytest.raises(InputError, match="no second output, features"):
        OnnxEncoder(load_package(tmp_path / "plain"))
    with pytest.raises(InputError, match=r"is told where tiles lie \(inputs: \[position\]\), and an encoder is not"):
        OnnxEncoder(load_package(write_position_package(tmp_path / "told")))


def test_batch_norm_in_training_mode_is_refused_with_the_reason() -> None:
    _, aggregator = networks("mean")
    pixels = PixelArrays([3])
    network = new_network(3)
    network.n_features = 128
    with pytest.raises(UsageError, match=r"bn is batch norm .*would depend on how it is cut.*evaluation mode"):
        JointGradients(UnitPool(), source_of(network.train(), pixels), aggregator, HEAD)

    class Features(torch.nn.Module):
        n_features = 128

        def __init__(self) -> None:
            super().__init__()
            self.network = network.eval()

        def forward(self, tiles):
            return self.network.features(tiles)

    encoder = Features()
    sums = JointGradients(UnitPool(), source_of(encoder, pixels), aggregator, HEAD).of_step(
        [draw_of(pixels).bag(case_of(0), 0)], 0
    )
    assert sums.weight == 1
