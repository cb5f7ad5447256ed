"""Stain maps against stains that were mixed before, an independent library's, and colours that are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.color import rgb_from_hed
from skimage.io import imread
from torchstain.numpy.normalizers.macenko import NumpyMacenkoNormalizer

from pyramidai_mpi.models.stain.map import MacenkoTarget, StainError, StainMap, colours_of, estimate, stain_vectors
from tests.stains import EOSIN, HEMATOXYLIN, REINHARD, densities_of, stained


def degrees(one, other):
    return np.rad2deg(np.arccos(min(1, one @ other / np.linalg.norm(one) / np.linalg.norm(other))))


@pytest.mark.parametrize(
    ("hematoxylin", "eosin"),
    [(HEMATOXYLIN, EOSIN + 0.15), (np.array([0.55, 0.75, 0.40]), np.array([0.20, 0.80, 0.55])), rgb_from_hed[:2]],
    ids=["typical", "Macenko's", "scikit-image's"],
)
def test_stains_that_were_mixed_are_found_again(hematoxylin, eosin):
    found = stain_vectors(densities_of(stained(hematoxylin, np.maximum(eosin, 0.12))))
    assert degrees(found[0], hematoxylin) < 4
    assert degrees(found[1], np.maximum(eosin, 0.12)) < 4


@pytest.mark.real
@pytest.mark.parametrize("kind", ["Normal", "OSCC"])
def test_stains_of_real_tissue_are_torchstains_to_a_tenth_of_a_degree(real_tiles, kind):
    pixels = np.concatenate([imread(path)[::4, ::4].reshape(-1, 3) for path in real_tiles(kind)[:50]])
    theirs = NumpyMacenkoNormalizer()
    theirs.fit(pixels)
    found = stain_vectors(densities_of(pixels))
    assert degrees(found[0], found[1]) > 10  # two stains, or agreement would mean little
    assert degrees(found[0], theirs.HERef[:, 0]) < 0.1
    assert degrees(found[1], theirs.HERef[:, 1]) < 0.1


def test_a_map_survives_its_way_to_other_ranks_to_the_last_bit():
    made = estimate(stained(), MacenkoTarget())
    assert StainMap.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (np.full((50000, 3), 250, np.uint8), "0 stained pixels"),
        (stained(n=500), "too few"),
        (stained(HEMATOXYLIN, HEMATOXYLIN), "degrees apart"),
    ],
    ids=["glass", "a speck", "one stain"],
)
def test_what_cannot_be_normalised_is_refused(pixels, said):
    with pytest.raises(StainError, match=f"its stain cannot be estimated: .*{said}"):
        estimate(pixels, MacenkoTarget())


def test_tissue_of_one_colour_cannot_be_given_a_spread():
    with pytest.raises(StainError, match="one colour"):
        estimate(np.tile(np.array([120, 60, 130], np.uint8), (5000, 1)), REINHARD)


def test_densities_that_are_looked_up_are_the_logarithms_to_the_last_bit():
    # every grey value, with stain and without, in each channel
    pixels = np.concatenate([stained(), np.random.default_rng(5).integers(0, 256, (20000, 3)).astype(np.uint8)])
    assert [len(np.unique(channel)) for channel in pixels.T] == [256] * 3
    hematoxylin, eosin = stain_vectors(densities_of(pixels))
    found = colours_of(pixels, "macenko")
    assert (found.hematoxylin, found.eosin) == (tuple(hematoxylin.tolist()), tuple(eosin.tolist()))
