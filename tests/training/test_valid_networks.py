"""Networks without padding: what sliding windows that share their work rely on."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install pyramidai_mpi[train]")

import onnx  # noqa: E402
import onnxruntime  # noqa: E402
from torch import nn  # noqa: E402

from pyramidai_mpi.base.errors import UsageError  # noqa: E402
from pyramidai_mpi.models.check import check_network  # noqa: E402
from pyramidai_mpi.models.package import load_package  # noqa: E402
from pyramidai_mpi.models.write import PackageText, write_package  # noqa: E402
from pyramidai_mpi.ranks.unit_pool import UnitPool  # noqa: E402
from pyramidai_mpi.training.architectures import check_side, new_network  # noqa: E402
from pyramidai_mpi.training.fit_settings import FitSettings  # noqa: E402
from pyramidai_mpi.training.fitting import FitPlace, fit, score  # noqa: E402
from pyramidai_mpi.training.networks.export import to_onnx  # noqa: E402
from pyramidai_mpi.training.tile_store import LabelledTiles  # noqa: E402

NAMES = ("small-valid", "inception-valid")
STRIDE = 16
SEES = {"small-valid": 96, "inception-valid": 112}
"""Pixels a side that one value of the last maps sees."""
SIMPLE = {"Cast", "Transpose", "Mul", "Sub", "Conv", "Relu", "Slice", "Concat", "AveragePool", "MaxPool"}
HEAD = ["ReduceMean", "Gemm", "Softmax"]


def with_statistics(name: str):
    """A network in evaluation mode whose batch norms do something."""
    network = new_network(name, 3).eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    return network


@pytest.fixture(scope="module", params=NAMES)
def name(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def network(name):
    return with_statistics(name)


@pytest.fixture(scope="module")
def graph(network) -> bytes:
    return to_onnx(network)


def padding(graph: bytes) -> list[str]:
    """Nodes that look beyond the border of what they are given, and what they do there."""
    found = []
    for node in onnx.load_from_string(graph).graph.node:
        known = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        if any(known.get("pads", [])) or known.get("auto_pad", b"NOTSET") != b"NOTSET" or known.get("ceil_mode", 0):
            found.append(f"{node.op_type} {known}")
        if node.op_type in {"Pad", "Resize", "ConvTranspose"}:
            found.append(node.op_type)
    return found


def test_nothing_in_the_exported_graph_is_padded(graph) -> None:
    assert padding(graph) == []


def test_padding_would_be_found() -> None:
    assert len(padding(to_onnx(new_network("small", 0)))) == 5


def test_the_exported_graph_is_made_of_simple_operators_that_know_no_size(graph) -> None:
    model = onnx.load_from_string(graph)
    operators = [node.op_type for node in model.graph.node]
    assert set(operators[:-3]) <= SIMPLE
    assert operators[-3:] == HEAD
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}
    slices = [node for node in model.graph.node if node.op_type == "Slice"]
    for begin, end in ((stored[node.input[1]], stored[node.input[2]]) for node in slices):
        assert (begin > 0).all()
        assert (end == -begin).all()  # counted from the end, so it holds in a larger region too


def test_windows_of_a_region_have_its_maps_and_answers(network) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224 + 3 * STRIDE, 224 + 2 * STRIDE, 3), np.uint8)
    region = torch.from_numpy(pixels)
    with torch.inference_mode():
        shared = network.maps(region)
        side = network.maps(region[:, :224, :224]).shape[-1]
        assert shared.shape[2:] == (side + 3, side + 2)
        answers = torch.softmax(network.head(nn.functional.avg_pool2d(shared, side, 1).permute(0, 2, 3, 1)), -1)
        for row, col in np.ndindex(4, 3):
            window = region[:, STRIDE * row : STRIDE * row + 224, STRIDE * col : STRIDE * col + 224]
            maps = network.maps(window)
            assert maps.std() > 0.01  # else equality would mean little
            torch.testing.assert_close(shared[:, :, row : row + side, col : col + side], maps, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(answers[:, row, col], network(window)[0], atol=1e-5, rtol=0)


def test_windows_of_a_padded_network_have_not() -> None:
    padded = with_statistics("small")
    region = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 240, 240, 3), np.uint8))
    with torch.inference_mode():
        whole, window = (padded.body(tiles.permute(0, 3, 1, 2) / 255) for tiles in (region, region[:, 16:, 16:]))
    assert (whole[:, :, 1:, 1:] - window).abs().max() > 0.01


def test_a_value_of_the_maps_sees_as_much_as_is_said_and_its_neighbour_16_pixels_on(name, network) -> None:
    """Seen from the gradient of sums of positive numbers, in which no pixel that has a part in them can cancel out."""
    positive = new_network(name, 0).double().eval()
    with torch.no_grad():
        for module in positive.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.abs_().div_(module.weight.sum(dim=(1, 2, 3), keepdim=True))
    pixels = torch.ones((1, 3, 224, 224), dtype=torch.float64, requires_grad=True)
    maps = positive.maps_of(pixels)

    def seen(values):
        (gradient,) = torch.autograd.grad(values.sum(), pixels, retain_graph=True)
        rows, cols = np.nonzero(gradient[0].sum(0).numpy())
        return rows.min(), rows.max() + 1, cols.min(), cols.max() + 1

    sees = SEES[name]
    assert seen(maps[:, :, 0, 0]) == (0, sees, 0, sees)
    assert seen(maps[:, :, 1, 3]) == (STRIDE, STRIDE + sees, 3 * STRIDE, 3 * STRIDE + sees)
    assert seen(maps[:, :, -1, -1]) == (224 - sees, 224, 224 - sees, 224)


def test_the_exported_graph_gives_what_the_network_gave(network, graph) -> None:
    tiles = np.random.default_rng(1).integers(0, 256, (3, 224, 224, 3), np.uint8)
    with torch.inference_mode():
        probabilities, features = (out.numpy() for out in network(torch.from_numpy(tiles)))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = session.run(["probabilities", "features"], {"tiles": tiles})
    np.testing.assert_allclose(found[1], features, atol=1e-4, rtol=1e-4)
    np.testing.assert_allclose(found[0], probabilities, atol=1e-5)
    np.testing.assert_allclose(found[0].sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(session.run(None, {"tiles": tiles[:1]})[0].shape, (1, 2))


def test_it_is_a_network_of_a_package(graph, tmp_path) -> None:
    write_package(tmp_path / "m", PackageText("m").document(1), [graph])
    package = load_package(tmp_path / "m")
    check_network(package.levels[0], package)


def test_what_is_trained_is_what_the_probabilities_say(network) -> None:
    tiles = torch.from_numpy(np.random.default_rng(2).integers(0, 256, (2, 224, 224, 3), np.uint8))
    with torch.inference_mode():
        logit = network.logit(network.features(tiles))
        torch.testing.assert_close(torch.sigmoid(logit)[:, 0], network(tiles)[0][:, 1])


def test_textures_of_one_colour_are_learnt_to_be_told_apart(name, tmp_path) -> None:
    rng = np.random.default_rng(0)
    side, positive = SEES[name], np.arange(24) % 2 == 0
    fine, coarse = rng.integers(0, 256, (12, side, side, 3)), rng.integers(0, 256, (12, side // 8, side // 8, 3))
    pixels = np.empty((24, side, side, 3), np.uint8)
    pixels[positive], pixels[~positive] = fine, coarse.repeat(8, axis=1).repeat(8, axis=2)
    tiles = LabelledTiles(pixels, positive)
    network = new_network(name, 0)
    settings = FitSettings(epochs=12, batch_size=8, learning_rate=1e-3)
    done = fit(network, tiles, tiles, settings, UnitPool(), FitPlace(tmp_path, "level0", 0, {}))
    assert done.rows[-1]["loss"] < done.rows[0]["loss"]
    assert ((score(network, tiles, UnitPool()) >= 0.5) == positive).all()


def test_tiles_too_small_to_leave_a_map_are_refused(name) -> None:
    check_side(name, SEES[name])
    with torch.inference_mode():
        smallest = torch.zeros((1, SEES[name], SEES[name], 3), dtype=torch.uint8)
        assert new_network(name, 0).eval().maps(smallest).shape[2:] == (1, 1)
    with pytest.raises(UsageError, match=f"looks at {SEES[name]} pixels a side or more, not at 64"):
        check_side(name, 64)
