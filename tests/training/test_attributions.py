"""Attributions from a package alone, beside captum's of the torch network that it was made of."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="captum explains torch's networks: pip install pyramidai_mpi[train]")
captum_attr = pytest.importorskip("captum.attr", reason="what attributions are compared with: pip install captum")

from pyramidai_mpi.explain.cam import gradcam, gradcam_plus_plus  # noqa: E402
from pyramidai_mpi.explain.cells import cell_means  # noqa: E402
from pyramidai_mpi.explain.integrated import integrated_gradients  # noqa: E402
from pyramidai_mpi.explain.methods import Fill  # noqa: E402
from pyramidai_mpi.explain.occlusion import Occlusion  # noqa: E402
from pyramidai_mpi.explain.perturbation import scores_of  # noqa: E402
from pyramidai_mpi.explain.replacement import replacement  # noqa: E402
from pyramidai_mpi.models.backward.engine import GradientEngine  # noqa: E402
from pyramidai_mpi.models.package import load_package  # noqa: E402
from pyramidai_mpi.models.write import PackageText, write_package  # noqa: E402
from pyramidai_mpi.training.architectures import new_network  # noqa: E402
from pyramidai_mpi.training.networks.export import to_onnx  # noqa: E402

SIDE = {"small": 64, "small-valid": 128}
SEED = 3


@pytest.fixture(scope="module", params=SIDE)
def explained(request, tmp_path_factory):
    """A network whose batch norms do something, the engine of its package, and two tiles."""
    network, generator = new_network(request.param, SEED), torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.8, 1.2, generator=generator)
    network.eval()
    side = SIDE[request.param]
    folder = tmp_path_factory.mktemp("package") / request.param
    write_package(folder, PackageText("explained", tile_size=side).document(1), [to_onnx(network, side)])
    package = load_package(folder)
    tiles = np.random.default_rng(1).integers(0, 256, (2, side, side, 3)).astype(np.uint8)
    return network, GradientEngine(package.levels[0], package), tiles


def logit_of(network, column):
    """What the last softmax is given for a class, (n, 1); of a network with one logit, that or its opposite."""

    def logit(pixels):
        found = network.head(network.features(pixels))
        return found[:, column : column + 1] if found.shape[1] > 1 else (found if column else -found)

    return logit


def test_gradcam_is_captums_for_each_class(explained):
    network, engine, tiles = explained
    (layer,) = engine.layers
    most = []
    for column in (0, 1):
        cam = captum_attr.LayerGradCam(logit_of(network, column), network.stages()[-1][-1])
        expected = cam.attribute(torch.from_numpy(tiles).float(), 0, relu_attributions=True)[:, 0].detach().numpy()
        looked = engine.look(tiles, column)
        for k in range(2):
            found = gradcam(looked.activations[layer.name][k], looked.gradients[layer.name][k])
            assert found.shape == expected[k].shape == layer.shape[1:]
            assert np.allclose(found, expected[k], rtol=0, atol=1e-5 * max(1.0, expected.max()))
        most.append(expected.max())
    assert max(most) > 1e-3  # what speaks against a class everywhere leaves nothing of its map


def test_gradcam_plus_plus_is_the_papers_on_torchs_own_gradients(explained):
    """captum has none."""
    network, engine, tiles = explained
    (layer,) = engine.layers
    kept = []
    hook = network.stages()[-1][-1].register_forward_hook(lambda _m, _i, out: kept.append(out))
    logit = logit_of(network, 1)(torch.from_numpy(tiles[:1]).float())[0, 0]
    hook.remove()
    (gradients,) = torch.autograd.grad(logit, kept)
    maps, g = kept[0][0].detach().double(), gradients[0].double()
    alpha = torch.nan_to_num(g**2 / (2 * g**2 + maps.sum((1, 2), keepdim=True) * g**3))
    expected = torch.relu(((alpha * torch.relu(g)).sum((1, 2))[:, None, None] * maps).sum(0)).numpy()
    looked = engine.look(tiles[:1], 1)
    found = gradcam_plus_plus(looked.activations[layer.name][0], looked.gradients[layer.name][0])
    assert np.allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, expected.max()))
    assert expected.max() > 1e-3


@pytest.mark.parametrize("fill", [Fill.GLASS, Fill.BLUR])
def test_integrated_gradients_are_captums(explained, fill):
    network, engine, tiles = explained
    baseline = replacement(tiles[0], fill)
    integrated = captum_attr.IntegratedGradients(logit_of(network, 1))
    given, start = (torch.from_numpy(pixels[None]).float() for pixels in (tiles[0], baseline))
    expected = integrated.attribute(given, start, 0, n_steps=12, method="gausslegendre")[0].sum(-1).detach().numpy()
    found = integrated_gradients(tiles[0], lambda at: engine.input_gradients(at, 1), 12, baseline)
    assert np.allclose(found, expected, rtol=0, atol=1e-5 * max(1.0, abs(expected).max()))


def test_occlusion_is_captums_where_squares_are_cells_of_pixels(explained):
    """Its map has pixels, each with the mean over the squares that covered it, ours their cells."""
    network, _, tiles = explained
    side = tiles.shape[1]
    occlusion = Occlusion(side, 8, 2, Fill.MEAN)

    def score_of(pictures):
        with torch.inference_mode():
            return torch.sigmoid(network.odds(torch.from_numpy(pictures)))[:, 0].numpy()

    found = occlusion.map_of(tiles[0], scores_of(occlusion, tiles[0], score_of, ()), ())
    given, filled = (torch.from_numpy(p[None]).float() for p in (tiles[0], replacement(tiles[0], Fill.MEAN)))
    with torch.inference_mode():
        expected = captum_attr.Occlusion(lambda x: torch.sigmoid(network.odds(x))).attribute(
            given, (side // 4, side // 4, 3), (side // 8, side // 8, 3), filled, 0, perturbations_per_eval=16
        )
    assert np.allclose(found, cell_means(expected[0, ..., 0].numpy(), (8, 8)), atol=1e-5)
    assert abs(found).max() > 1e-4


def test_powers_of_the_gradient_are_the_derivatives_of_the_exponential():
    """What Grad-CAM++ stands on, by automatic differentiation thrice: Y = exp(S), S a network of rectifiers."""
    generator = torch.Generator().manual_seed(2)
    maps = torch.rand((2, 3, 3), generator=generator, dtype=torch.float64)
    first, second = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((6, 18), (1, 6)))

    def logit(at):
        return (second @ torch.relu(first @ at.ravel()))[0]

    at = maps.clone().requires_grad_()
    (slope,) = torch.autograd.grad(torch.exp(logit(at)), at, create_graph=True)
    weights = torch.zeros(2, dtype=torch.float64)
    for place in np.ndindex(2, 3, 3):
        (bend,) = torch.autograd.grad(slope[place], at, create_graph=True)
        (third,) = torch.autograd.grad(bend[place], at, retain_graph=True)
        below = 2 * bend[place] + maps[place[0]].sum() * third[place]
        weights[place[0]] += (bend[place] / below * torch.relu(slope[place])).item() if slope[place] > 0 else 0
    expected = torch.relu((weights[:, None, None] * maps).sum(0)) / torch.exp(logit(maps))
    plain = maps.clone().requires_grad_()
    (gradients,) = torch.autograd.grad(logit(plain), plain)
    found = gradcam_plus_plus(maps.numpy(), gradients.numpy())
    assert np.allclose(found, expected.numpy(), rtol=1e-6)
    assert expected.max() > 0
