"""What all methods by masks promise, and split halves."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.explain.choice import make_perturbation
from pyramidai_mpi.explain.methods import METHODS, Fill, MethodName, method_named
from pyramidai_mpi.explain.perturbation import MASKS_PER_BLOCK, blocks, scores_of, split_half
from tests.explain.conftest import KEY

PERTURBING = [method for method in METHODS.values() if method.perturbs]


@pytest.mark.parametrize("method", PERTURBING, ids=lambda method: method.name)
def test_scores_in_any_blocks_make_the_same_map(method, tile, linear):
    perturbation = make_perturbation(method, 63, {"n_masks": 130} if method.draws else {"cells": 12})
    scores = scores_of(perturbation, tile, linear, KEY)
    assert scores.shape == (perturbation.n_masks,)
    backwards = [linear(perturbation.perturbed(tile, part, KEY)) for part in reversed(list(blocks(len(scores))))]
    assert (np.concatenate(backwards[::-1]) == scores).all()
    found = perturbation.map_of(tile, scores, KEY)
    assert (found.shape, found.dtype) == (perturbation.map_shape, np.float32)
    assert found.tobytes() == perturbation.map_of(tile.copy(), scores.copy(), KEY).tobytes()
    assert np.isnan(perturbation.repeatability(tile, scores, KEY)) != method.draws


def test_blocks_cover_all_masks_once():
    assert list(blocks(2 * MASKS_PER_BLOCK + 1)) == [range(64), range(64, 128), range(128, 129)]
    assert list(blocks(MASKS_PER_BLOCK)) == [range(64)]


def test_split_halves_foretell_by_spearman_and_brown():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=200_000)
    one, two, three, four = (truth + rng.normal(size=200_000) for _ in range(4))
    # halves correlate at 1/2, and sums of two of them at 2/3
    assert split_half(one, two) == pytest.approx(np.corrcoef(one + two, three + four)[0, 1], abs=0.01)
    assert split_half(one, one) == pytest.approx(1)
    assert split_half(one, -one) == 0
    assert np.isnan(split_half(one, np.ones_like(one)))


def test_methods_are_found_by_name_and_told_their_options():
    assert method_named("rise").settings({"keep": 0.25})["keep"] == 0.25
    assert method_named("gradcam++").has_layer
    assert {method.name for method in METHODS.values()} == set(MethodName)
    rise = make_perturbation(method_named("rise"), 100, {"n_masks": 77, "grid": 5}, Fill.GLASS)
    assert (rise.n_masks, rise.grid, rise.fill) == (77, 5, Fill.GLASS)
    for method in PERTURBING:
        made = make_perturbation(method, 224, {})
        assert all(getattr(made, name) == value for name, value in method.settings({}).items())


@pytest.mark.parametrize(
    ("name", "asked", "says"),
    [
        ("rise", {"cells": 3}, "no option 'cells'"),
        ("rise", {"keep": 2}, "keep of method rise is 2, expected a number from 0.05 to 0.95"),
        ("lime", {"n_masks": 1.5}, "expected a whole number"),
        ("gradcam", {"steps": 3}, "nor any other"),
        ("occlusion", {"window": 14}, "take window < cells"),
        ("gradcam", {}, "works by gradients"),
        ("gradcm", {}, "did you mean 'gradcam'"),
        ("shapley", {}, "there are: gradcam, gradcam"),
    ],
)
def test_what_cannot_be_is_said(name, asked, says):
    with pytest.raises(UsageError, match=says.replace("+", r"\+")):
        make_perturbation(method_named(name), 224, asked)
