"""The paper's network: its published size, and the same function before and after export."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="building networks needs torch: pip install pyramidai_mpi[train]")

import onnxruntime  # noqa: E402

from pyramidai_mpi.base.errors import InputError  # noqa: E402
from pyramidai_mpi.models.package import load_package  # noqa: E402
from pyramidai_mpi.models.write import PackageText, write_package  # noqa: E402
from pyramidai_mpi.training.networks.export import to_onnx  # noqa: E402
from pyramidai_mpi.training.networks.inception import Inception, load_weights, random_network  # noqa: E402
from pyramidai_mpi.training.networks.tile_network import without_batch_norm  # noqa: E402


@pytest.fixture(scope="module")
def tiles() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)


@pytest.fixture(scope="module")
def network() -> Inception:
    """A network whose batch norms do something."""
    network = random_network(3)
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    return network


def test_the_convolutions_have_the_published_number_of_weights() -> None:
    body = sum(p.numel() for name, p in Inception().named_parameters() if not name.startswith(("dense.", "head.")))
    # torchvision's inception_v3 states 27,161,264, of which fc (2048 x 1000 + 1000) and AuxLogits (3,326,696) are heads
    assert body == 27_161_264 - 2_049_000 - 3_326_696


def test_a_tile_of_224_pixels_costs_2840_million_multiplications() -> None:
    network, total = Inception().eval(), 0

    def count(module, _inputs, maps) -> None:
        nonlocal total
        total += maps.shape[2] * maps.shape[3] * module.weight.numel()

    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network(torch.zeros((1, 224, 224, 3), dtype=torch.uint8))
    assert round(total / 1e9, 2) == 2.84


def test_the_exported_graph_gives_what_the_network_gave(network, tiles) -> None:
    with torch.inference_mode():
        probabilities, features = (out.numpy() for out in network(torch.from_numpy(tiles)))
    graph = to_onnx(network)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities", "features"], {"tiles": tiles})
    assert features.std() > 0.1  # else equality would mean little
    np.testing.assert_allclose(found[1], features, atol=2e-4)
    np.testing.assert_allclose(found[0], probabilities, atol=1e-5)
    np.testing.assert_allclose(found[0].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(session.run(None, {"tiles": tiles[:1]})[0].shape, (1, 2))


def test_weights_come_back_and_folding_changes_nothing(network, tiles, tmp_path) -> None:
    torch.save(network.state_dict(), tmp_path / "all.pt")
    loaded, has_head = load_weights(tmp_path / "all.pt")
    assert has_head
    pixels = torch.from_numpy(tiles)
    with torch.inference_mode():
        wanted = network(pixels)[1]
        torch.testing.assert_close(loaded(pixels)[1], wanted)
        torch.testing.assert_close(without_batch_norm(loaded)(pixels)[1], wanted, atol=2e-4, rtol=1e-3)


def test_weights_with_a_foreign_head_are_a_body_without_answers(network, tmp_path) -> None:
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(("dense.", "head."))}
    state |= {"fc.weight": torch.zeros(1000, 2048), "AuxLogits.fc.weight": torch.zeros(1000, 768)}
    torch.save(state, tmp_path / "torchvision.pt")
    loaded, has_head = load_weights(tmp_path / "torchvision.pt")
    assert not has_head
    torch.testing.assert_close(loaded.Mixed_7c.branch1x1.conv.weight, network.Mixed_7c.branch1x1.conv.weight)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(lambda state: state.pop("Mixed_6a.branch3x3.conv.weight"), "lacks Mixed_6a", id="a layer is gone"),
        pytest.param(lambda state: state.update(extra=torch.zeros(1)), "unknown extra", id="one too many"),
        pytest.param(
            lambda state: state.update({"head.weight": torch.zeros(2, 224)}), "another shape for head", id="shape"
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(change, said, network, tmp_path) -> None:
    state = dict(network.state_dict())
    change(state)
    torch.save(state, tmp_path / "bad.pt")
    with pytest.raises(InputError, match=said):
        load_weights(tmp_path / "bad.pt")


def test_a_pickle_is_not_executed(tmp_path) -> None:
    torch.save(Inception, tmp_path / "class.pt")
    with pytest.raises(InputError, match="not a file of weights"):
        load_weights(tmp_path / "class.pt")


def test_a_package_of_random_weights_says_so(tmp_path) -> None:
    write_package(tmp_path / "random", PackageText("r", random_weights=True).document(1), [b"x"])
    write_package(tmp_path / "trained", PackageText("t").document(1), [b"x"])
    assert load_package(tmp_path / "random").random_weights
    assert not load_package(tmp_path / "trained").random_weights
