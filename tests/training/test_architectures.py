"""The table of networks to train: what each is made of, what it starts from, what is frozen, and its graph."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="building networks needs torch: pip install pyramidai_mpi[train]")

import onnxruntime  # noqa: E402

from pyramidai_mpi.base.errors import InputError, UsageError  # noqa: E402
from pyramidai_mpi.models.backward.engine import GradientEngine  # noqa: E402
from pyramidai_mpi.models.package import ModelLevel, load_package  # noqa: E402
from pyramidai_mpi.models.shipped import default_model  # noqa: E402
from pyramidai_mpi.training.architectures import ARCHITECTURES, check_weights, new_network, row_of  # noqa: E402
from pyramidai_mpi.training.networks.export import to_onnx  # noqa: E402

PUBLISHED = {
    # weights under the pooled maps: published totals less the layer for ImageNet's 1000 classes
    "googlenet": 6_624_904 - 1_025_000,
    "resnet18": 11_689_512 - 513_000,
    "resnet50": 25_557_032 - 2_049_000,
    "resnet101": 44_549_160 - 2_049_000,
    "densenet121": 7_978_856 - 1_025_000,
    "inception_resnet_v2": 55_843_464 - 1_537_000,
}
SIDE = {"small": 48, "small-valid": 96, "inception-valid": 112, "inception_v3": 75, "inception_resnet_v2": 75}


def made(name: str, seed: int = 3):
    """A network of the table, or the test is skipped where its library is missing."""
    if row_of(name).timm:
        pytest.importorskip(
            "pyramidai_mpi.training.convert.timm_gate", reason="timm is an extra: pip install pyramidai_mpi[timm]"
        )
    return new_network(name, seed)


def lively(name: str):
    """One whose batch norms do something."""
    network, generator = made(name), torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
            torch.nn.init.uniform_(module.weight, 0.8, 1.2, generator)  # timm begins with zeros where a block ends
    return network.eval()


def tiles_for(name: str, count: int = 3) -> np.ndarray:
    side = SIDE.get(name, 32)
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def head_of(network) -> set[str]:
    """Names of parameters in no stage."""
    inside = {id(p) for stage in network.stages() for module in stage for p in module.parameters()}
    return {name for name, p in network.named_parameters() if id(p) not in inside}


DEEP = {"resnet50", "resnet101", "densenet121", "inception_resnet_v2"}
every = pytest.mark.parametrize("name", [one.name for one in ARCHITECTURES])
LISTED = [pytest.param(one.name, marks=[pytest.mark.slow] * (one.name in DEEP)) for one in ARCHITECTURES]
exported = pytest.mark.parametrize("graph_of", LISTED, indirect=True)
DEEPEST = {"resnet50", "resnet101", "inception_resnet_v2"}  # their gradients are in bench.explain.gradient_cost
quick = pytest.mark.parametrize("name", ["small", "small-valid", "googlenet", "resnet18"])


@quick
def test_each_can_be_made_from_its_seed(name):
    networks = [made(name, seed).state_dict() for seed in (3, 3, 4)]
    same, other = ([torch.equal(network[key], networks[0][key]) for key in network] for network in networks[1:])
    assert all(same)
    assert not all(other)


@pytest.mark.parametrize("name", PUBLISHED)
def test_each_has_the_published_number_of_weights(name):
    network = made(name)
    head = head_of(network)
    assert sum(p.numel() for key, p in network.named_parameters() if key not in head) == PUBLISHED[name]


@pytest.fixture(scope="module")
def graph_of(request):
    """Name, network and graph of an architecture."""
    network = lively(request.param)
    return request.param, network, to_onnx(network, tiles_for(request.param).shape[1])


@exported
def test_the_graph_gives_what_the_network_gives_for_any_batch(graph_of):
    name, network, graph = graph_of
    tiles = tiles_for(name)
    with torch.inference_mode():
        wanted, features = network(torch.from_numpy(tiles))
        odds = network.odds(torch.from_numpy(tiles))
    assert features.shape == (3, network.n_features)
    torch.testing.assert_close(wanted[:, 1:], torch.sigmoid(odds))
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for count in (3, 1):
        found, vectors = session.run(["probabilities", "features"], {"tiles": tiles[:count]})
        np.testing.assert_allclose(found, wanted[:count], atol=1e-5)
        np.testing.assert_allclose(vectors, features[:count], atol=1e-4 * float(features.abs().max()))


@pytest.mark.parametrize("graph_of", [one for one in LISTED if one.values[0] not in DEEPEST], indirect=True)
def test_gradients_of_the_graph_are_torchs(graph_of, tmp_path, monkeypatch):
    name, network, graph = graph_of
    tiles = tiles_for(name)
    (tmp_path / "n.onnx").write_bytes(graph)
    level = ModelLevel(0, tmp_path / "n.onnx", 0.5, "0" * 64)
    package = replace(load_package(default_model(), check_files=False), tile_size=tiles.shape[1], levels=(level,))
    engine = GradientEngine(level, package)
    (layer,) = engine.layers
    exact = in_float64(network, monkeypatch)
    apart = []
    # at a kink numbers may round to the other side: of densenet121 torch's own in float32 do, by 0.8 %; seldom twice
    while len(apart) < len(tiles) and min(apart, default=1.0) > 1e-5:
        tile = tiles[len(apart) : len(apart) + 1]
        activations, found = {}, {"pixels": 0.0, "maps": 0.0}
        # with softmax the log-odds are the difference of two logits, with sigmoid one is the other's opposite
        for column, share in {0: -1.0, 1: 1.0}.items() if name.endswith("-valid") else {1: 1.0}.items():
            looked = engine.look(tile, column)
            activations = looked.activations[layer.name][0]
            found["maps"] += share * looked.gradients[layer.name][0]
            found["pixels"] += share * engine.input_gradients(tile.astype(np.float32), column)[0]
        at_pixels, maps = gradients_of(exact, tile)
        at_maps = [
            gradient
            for values, gradient in maps
            if values.shape == layer.shape and np.allclose(values, activations, rtol=0, atol=1e-4 * activations.max())
        ]
        pairs = [(found["pixels"], at_pixels), *((found["maps"], one) for one in at_maps)]
        assert len(pairs) > 1
        apart.append(max(np.abs(ours - torchs).max() / np.abs(torchs).max() for ours, torchs in pairs))
    assert apart[-1] <= 1e-5


def in_float64(network, monkeypatch):
    """A copy that computes in double precision, whatever type it says that it wants."""
    exact = copy.deepcopy(network).double()
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    return exact


def gradients_of(network, tile):
    """Of the log-odds at the pixels; and values and gradients of all maps that modules give."""
    found = []

    def keep(_, __, values):
        if torch.is_tensor(values) and values.ndim == 4 and values.requires_grad:
            kept = values.clone()
            kept.retain_grad()
            found.append(kept)
            return kept.clone()  # what follows may work in place
        return values

    hooks = [module.register_forward_hook(keep) for module in network.modules()]
    pixels = torch.from_numpy(tile).double().requires_grad_()
    network.odds(pixels).sum().backward()
    for hook in hooks:
        hook.remove()
    return pixels.grad[0].numpy(), [(one.detach()[0].numpy(), one.grad[0].numpy()) for one in found]


@every
def test_stages_hold_all_under_the_features_in_the_order_in_which_they_are_passed(name):
    network, passed = made(name).eval(), []
    modules = [(number, module) for number, stage in enumerate(network.stages()) for module in stage]
    for number, module in modules:
        module.register_forward_pre_hook(lambda *_, number=number: passed.append(number))
    with torch.inference_mode():
        features = network.features(torch.from_numpy(tiles_for(name, 1)))
        network.logit(features)
    assert passed == sorted(passed)
    assert len(passed) == len(modules)
    in_stages = [id(p) for _, module in modules for p in module.parameters()]
    assert len(in_stages) == len(set(in_stages))
    assert len(head_of(network)) in {2, 4}  # one layer, or two (inception_v3)


@quick
def test_frozen_stages_learn_nothing_and_keep_their_means_while_the_others_learn(name):
    network, tiles = made(name), torch.from_numpy(tiles_for(name, 4))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # timm begins with zeros in those that end a block
            torch.nn.init.ones_(module.weight)
    network.freeze(2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.train()
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1)
    network.odds(tiles).square().sum().backward()
    optimizer.step()
    after = network.state_dict()
    frozen = {id(t) for stage in network.stages()[:2] for m in stage for t in (*m.parameters(), *m.buffers())}
    kept = {key for key, value in network.state_dict(keep_vars=True).items() if id(value) in frozen}
    kept |= {key for key, value in network.named_buffers() if id(value) in frozen}
    assert kept
    assert {key for key in after if torch.equal(after[key], before[key])} == kept
    network.freeze(0)
    assert all(module.training for module in network.modules())
    assert all(p.requires_grad for p in network.parameters())


def test_more_stages_than_there_are_cannot_be_frozen():
    with pytest.raises(UsageError, match="--freeze 6: this network has 5 stages, expected 0 to 5"):
        new_network("small", 0).freeze(6)


@pytest.mark.parametrize("name", ["small", "googlenet", "resnet18"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_each_starts_from_the_weights_of_a_file(name, suffix, tmp_path):
    source = lively(name)
    state = {key.removeprefix("network."): value for key, value in source.state_dict().items()}
    path = tmp_path / f"weights{suffix}"
    if suffix == ".pt":
        torch.save(state, path)
    else:
        pytest.importorskip("safetensors.torch").save_file(state, path)
    started = new_network(name, 9, path)
    for key, value in source.state_dict().items():
        torch.testing.assert_close(started.state_dict()[key], value, rtol=0, atol=0)


def test_a_head_for_other_classes_is_left_out_and_named(tmp_path, caplog):
    source = lively("googlenet")
    state = source.state_dict() | {"fc.weight": torch.ones(1000, 1024), "fc.bias": torch.ones(1000)}
    torch.save(state | {"aux1.conv.conv.weight": torch.ones(3)}, tmp_path / "imagenet.pt")
    started = new_network("googlenet", 3, tmp_path / "imagenet.pt")
    assert "its head is for other classes and is left out (fc.bias (1000,), fc.weight (1000, 1024))" in caplog.text
    torch.testing.assert_close(started.conv1.conv.weight, source.conv1.conv.weight)
    torch.testing.assert_close(started.fc.weight, new_network("googlenet", 3).fc.weight)


def test_a_layer_that_is_missing_is_named(tmp_path):
    state = new_network("googlenet", 0).state_dict()
    del state["conv3.conv.weight"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(InputError, match=r"less.pt: lacks conv3.conv.weight \(1 such\), expected the layers of Goog"):
        new_network("googlenet", 0, tmp_path / "less.pt")


def test_damaged_safetensors_are_one_line(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "w.safetensors").write_bytes(b"\x08" + bytes(30))
    with pytest.raises(InputError, match=r"w.safetensors: not a sound .safetensors file"):
        new_network("small", 0, tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["googlenet", "resnet18", "densenet121"])
def test_the_network_is_torchvisions(name, tmp_path):
    made(name)  # and the gate is open
    pytest.importorskip("pyramidai_mpi.training.convert.timm_gate")
    from torchvision import models

    words = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    theirs = getattr(models, name)(weights=None, num_classes=1, **words)
    generator = torch.Generator().manual_seed(1)
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    torch.save(theirs.state_dict(), tmp_path / "theirs.pt")
    tiles = tiles_for(name)
    mean, std = (0.5, 0.5) if name == "googlenet" else ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    planes = torch.from_numpy(((tiles / 255 - mean) / std).transpose(0, 3, 1, 2)).float()
    with torch.inference_mode():
        wanted = theirs.eval()(planes)
        found = new_network(name, 0, tmp_path / "theirs.pt").eval().odds(torch.from_numpy(tiles))
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_names_of_torchvisions_published_densenets_are_older_than_its_own(tmp_path):
    source = lively("densenet121").network
    old = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): v for key, v in source.state_dict().items()}
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "old.pt")
    started = new_network("densenet121", 0, tmp_path / "old.pt").network
    for key, value in source.state_dict().items():
        torch.testing.assert_close(started.state_dict()[key], value, rtol=0, atol=0)


def test_what_is_missing_is_said_before_the_work(tmp_path, monkeypatch):
    check_weights("small", None)
    with pytest.raises(InputError, match=r"state.pt: no such file of weights"):
        check_weights("resnet50" if "timm" in sys.modules else "small", tmp_path / "state.pt")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UsageError, match=r"--arch resnet50 needs timm: pip install 'pyramidai-mpi\[timm\]'"):
        new_network("resnet50", 0)
