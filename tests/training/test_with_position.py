"""A network to train that is told where a tile lies: it starts as it was without, learns the place, and is exported."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="building networks needs torch: pip install pyramidai_mpi[train]")

from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles  # noqa: E402
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine  # noqa: E402
from pyramidai_mpi.models.write import PackageText, write_package  # noqa: E402
from pyramidai_mpi.run.networks import open_package  # noqa: E402
from pyramidai_mpi.training.architectures import new_network  # noqa: E402
from pyramidai_mpi.training.convert.checked_package import ConvertedNetwork, place_package  # noqa: E402
from pyramidai_mpi.training.networks.export import to_onnx  # noqa: E402
from pyramidai_mpi.training.networks.with_position import WithPosition, with_position  # noqa: E402

TILES = torch.from_numpy(sample_tiles(6, 48))
PLACES = torch.from_numpy(sample_positions(6))
NAMES = pytest.mark.parametrize("name", ["small", "googlenet"])


def moved(name: str = "small", seed: int = 2) -> WithPosition:
    """One that has learnt something of places."""
    network = with_position(new_network(name, seed), seed)
    torch.nn.init.normal_(network.added.weight, std=1.0, generator=torch.Generator().manual_seed(0))
    return network.eval()


@NAMES
def test_at_first_it_answers_as_the_network_without_position(name):
    plain = new_network(name, 1).eval()
    told = with_position(new_network(name, 1)).eval()
    assert (plain.sees_position, told.sees_position) == (False, True)
    with torch.inference_mode():
        torch.testing.assert_close(told.odds(TILES, PLACES), plain.odds(TILES, PLACES), rtol=0, atol=0)
        torch.testing.assert_close(told(TILES, PLACES)[1], plain(TILES)[1], rtol=0, atol=0)


def test_its_last_layers_see_features_and_both_numbers():
    network = moved()
    with torch.inference_mode():
        features = network.features(TILES).double()
        seen = torch.cat([features, 2 * PLACES.double() - 1], 1)
        weight, bias = network.hidden.weight.double(), network.hidden.bias.double()
        hidden = torch.clamp(seen @ weight.T + bias, min=0)
        added = hidden @ network.added.weight.double().T + network.added.bias.double()
        wanted = network.network.logit(features.float()) + added
        torch.testing.assert_close(network.odds(TILES, PLACES).double(), wanted, atol=1e-5, rtol=1e-5)
        other = network.odds(TILES, PLACES.flip(1))
    assert (other - wanted).abs().max() > 1e-3


def test_without_positions_it_does_not_guess():
    with pytest.raises(ValueError, match="needs the tiles' positions"):
        moved().odds(TILES)


def test_it_learns_from_the_place_alone():
    network = with_position(new_network("small", 0), 0).train()
    network.freeze(5)
    with torch.no_grad():  # the same tile everywhere
        features = network.features(TILES[:1]).expand(64, -1)
    places = torch.from_numpy(sample_positions(64))
    truth = (places[:, :1] > 0.5).float()
    optimizer = torch.optim.Adam(network.parameters(), 0.05)
    for _ in range(60):
        loss = torch.nn.functional.binary_cross_entropy_with_logits(network.logit(features, places), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = ((network.eval().logit(features, places) > 0) == (truth > 0)).float().mean()
    assert right > 0.95


def test_stages_of_the_network_within_are_frozen_and_stay_so():
    network = with_position(new_network("small", 0)).train()
    network.freeze(3)
    network.eval()
    network.train()
    assert [block.bn.training for block in network.network.body] == [False, False, False, True, True]
    assert [block.conv.weight.requires_grad for block in network.network.body] == [False, False, False, True, True]
    assert network.added.weight.requires_grad


@NAMES
def test_the_package_gives_what_torch_gives(name, tmp_path):
    network = moved(name)
    with torch.inference_mode():
        wanted, features = network(TILES, PLACES)
    assert np.ptp(wanted[:, 1].numpy()) > 0.01
    text = PackageText("told", tile_size=48, sees_position=True)
    write_package(tmp_path / "told", text.document(1), [to_onnx(network, 48)])
    package = open_package(tmp_path / "told", check_networks=True)
    engine = OnnxEngine(package.levels[0], package)
    found, vectors = engine.predict(TILES.numpy(), features=True, positions=PLACES.numpy())
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(vectors, features, atol=1e-4 * float(features.abs().max()))


def test_converted_packages_are_compared_at_positions(tmp_path):
    network = moved()
    with torch.inference_mode():
        expected = network(TILES, PLACES)[0].numpy()
    text = PackageText("told", tile_size=48, sees_position=True)
    agreement = place_package(tmp_path / "told", text, [ConvertedNetwork(to_onnx(network, 48), expected)])
    assert agreement.difference < 1e-5
