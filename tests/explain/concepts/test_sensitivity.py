"""Concepts that were planted in activations are found with their direction, share and sign; chance is not."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from threadpoolctl import threadpool_limits

from pyramidai_mpi.explain.concepts.regression import (
    MOST_COMPONENTS,
    PENALTIES,
    Space,
    angles,
    fit,
    r_squared,
    resampled_directions,
)
from pyramidai_mpi.explain.concepts.sensitivity import Verdict, bidirectional, examine, sensitivities, tcav

PATIENTS, EACH, MAPS = 30, 60, 12
N = PATIENTS * EACH
PATIENT = np.repeat(np.arange(PATIENTS), EACH)
FOLD = PATIENT % 5


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """As in the ranks of a run: of so small tables, threads on busy cores take a hundred times as long."""
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module")
def planted():
    """Activations, a direction, and what varies along it."""
    rng = np.random.default_rng(2)
    direction = rng.normal(size=MAPS)
    direction /= np.linalg.norm(direction)
    activations = (rng.normal(size=(N, MAPS)) * rng.uniform(0.5, 2, MAPS) + 3).astype(np.float32)
    return activations, direction, activations.astype(float) @ direction


def chances(n_shuffles=40, n_draws=200, seed=0):
    rng = np.random.default_rng(seed)
    shuffles = np.stack([rng.permutation(N) for _ in range(n_shuffles)])
    return shuffles, rng.multinomial(PATIENTS, [1 / PATIENTS] * PATIENTS, size=n_draws)


def looked(planted, values, gradients):
    return examine(planted[0], gradients, values, PATIENT, FOLD, *chances())


def gradients_along(direction, sign):
    rng = np.random.default_rng(4)
    return np.outer(sign * rng.uniform(0.5, 1.5, N), direction) + 0.05 * rng.normal(size=(N, MAPS))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_planted_concept_is_found_with_its_direction_and_its_sign(planted, sign):
    _, direction, along = planted
    noise = 0.05 * np.random.default_rng(3).normal(size=N)
    found = looked(planted, along + noise, gradients_along(direction, sign))
    assert np.degrees(np.arccos(found.direction @ direction)) < 1
    assert found.angle < 1
    truth = 1 - (noise**2).sum() / ((along + noise - (along + noise).mean()) ** 2).sum()
    assert found.r2.value == pytest.approx(truth, abs=0.01)
    assert found.tcav == ((1, 1, 1) if sign > 0 else (0, 0, 0))
    # S is uniform on 0.5..1.5 but for a little
    assert found.br.value == pytest.approx(sign * 1 / np.sqrt(1 / 12 + 0.05**2), rel=0.03)
    assert np.sign(found.br.low) == np.sign(found.br.high) == sign
    assert found.verdict is (Verdict.FOR if sign > 0 else Verdict.AGAINST)
    assert found.p_r2 == found.p_br == pytest.approx(1 / 41)


@pytest.mark.parametrize("noise", [0.7, 1.5])
def test_the_held_out_share_is_that_which_was_planted(planted, noise):
    _, direction, along = planted
    added = noise * np.random.default_rng(3).normal(size=N)
    values = along + added
    truth = 1 - (added**2).sum() / ((values - values.mean()) ** 2).sum()
    found = looked(planted, values, gradients_along(direction, 1))
    assert found.r2.value == pytest.approx(truth, abs=0.01)
    assert found.r2.low < truth < found.r2.high


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_random_concept_is_not_learnt_and_its_tcav_may_be_a_half(planted, seed):
    _, direction, _ = planted
    values = np.random.default_rng(seed).normal(size=N)
    found = looked(planted, values, gradients_along(direction, 1))
    assert found.r2.value <= 0
    assert found.verdict is Verdict.NOT_LEARNT
    assert found.tcav.low <= 0.5 <= found.tcav.high
    assert found.p_r2 > 0.05


def test_what_is_learnt_but_not_used_is_called_encoded(planted):
    _, direction, along = planted
    rng = np.random.default_rng(6)
    across = rng.normal(size=(N, MAPS))
    found = looked(planted, along + 0.3 * rng.normal(size=N), across - np.outer(across @ direction, direction) * 0.5)
    assert found.verdict is Verdict.ENCODED


def test_behind_a_linear_layer_br_is_not_defined(planted):
    _, direction, along = planted
    found = looked(planted, along, np.tile(direction.astype(np.float32), (N, 1)))
    assert np.isnan(found.br.value)
    assert found.tcav.value == 1
    assert found.verdict is Verdict.FOR


def test_a_patient_that_stands_apart_does_not_help_to_foretell_it():
    """A patient's own mean is in activations and values: within the fit it would count, held out it does not."""
    rng = np.random.default_rng(8)
    own = rng.normal(size=(PATIENTS, MAPS))
    activations = own[PATIENT] + 0.1 * rng.normal(size=(N, MAPS))
    values = rng.normal(size=PATIENTS)[PATIENT]
    found = fit(Space(activations), values[:, None], FOLD)
    assert r_squared(values[:, None], found.held_out)[0] < 0.1
    scattered = fit(Space(activations), values[:, None], np.arange(N) % 5)
    assert r_squared(values[:, None], scattered.held_out)[0] > 0.4


def test_coefficients_are_those_of_scikit_learn(planted):
    activations, _, along = planted
    values = along + np.random.default_rng(3).normal(size=N)
    space = Space(activations)
    found = fit(space, values[:, None], FOLD)
    theirs = Ridge(alpha=found.penalties[0] * N).fit(space.rows, values)
    vector = theirs.coef_ / activations.astype(float).std(axis=0)
    np.testing.assert_allclose(found.directions[0], vector / np.linalg.norm(vector), atol=1e-9)
    assert found.penalties[0] in PENALTIES
    weights = np.random.default_rng(9).integers(0, 3, (1, N)).astype(float)
    drawn = Ridge(alpha=0.01 * weights.sum()).fit(space.rows, values, sample_weight=weights[0])
    vector = drawn.coef_ / activations.astype(float).std(axis=0)
    again = resampled_directions(space, values, 0.01, weights)
    np.testing.assert_allclose(again[0], vector / np.linalg.norm(vector), atol=1e-9)


def test_maps_that_are_the_same_for_all_patches_have_no_say(planted):
    activations, _, along = planted
    wider = np.concatenate([activations, np.full((N, 2), 1e4, np.float32), np.zeros((N, 1), np.float32)], axis=1)
    found = fit(Space(wider), along[:, None], FOLD).directions[0]
    np.testing.assert_array_equal(found[-3:], 0)
    np.testing.assert_allclose(found[:-3], fit(Space(activations), along[:, None], FOLD).directions[0], atol=1e-12)


def test_of_many_maps_the_components_are_enough():
    rng = np.random.default_rng(1)
    hidden = rng.normal(size=(600, 20))
    activations = hidden @ rng.normal(size=(20, MOST_COMPONENTS + 40)) + 0.01 * rng.normal(
        size=(600, MOST_COMPONENTS + 40)
    )
    space = Space(activations)
    assert space.rows.shape == (600, MOST_COMPONENTS)
    found = fit(space, hidden[:, :1], np.arange(600) % 4)
    assert r_squared(hidden[:, :1], found.held_out)[0] > 0.99
    assert found.directions.shape == (1, MOST_COMPONENTS + 40)


def test_scores_by_hand():
    gradients = np.array([[1.0, 0], [0, 2], [-1, 1], [0, 0]])
    found = sensitivities(gradients, np.array([[0.6, 0.8]]))
    np.testing.assert_allclose(found[:, 0], [0.6, 1.6, 0.2, 0])
    assert tcav(found)[0] == 0.75
    assert bidirectional(np.array([0.5]), found)[0] == pytest.approx(0.5 * 0.6 / np.std([0.6, 1.6, 0.2, 0]))
    weights = np.array([[2.0], [0], [1], [1]])
    assert tcav(found, weights)[0] == 0.75
    again = np.array([0.6, 0.6, 0.2, 0])
    assert bidirectional(np.array([1.0]), found, weights)[0] == pytest.approx(again.mean() / again.std())
    assert np.isnan(tcav(np.zeros((3, 1)))[0])


def test_angles_and_shares_by_hand():
    vectors = np.array([[1.0, 0], [0, 1], [np.sqrt(0.5), np.sqrt(0.5)]])
    np.testing.assert_allclose(angles(vectors), [90, 45, 45])
    values = np.array([1.0, 2, 3, 4])
    assert r_squared(values, np.full(4, 2.5)) == 0
    assert r_squared(values, np.zeros(4)) == pytest.approx(1 - 30 / 5)
    doubled = r_squared(values, np.array([1.0, 2, 3, 3]), np.array([[2.0, 0, 0, 2]]))
    assert doubled[0] == pytest.approx(1 - 2 / 9)
    assert np.isnan(r_squared(np.full(4, 0.1), np.zeros(4)))
