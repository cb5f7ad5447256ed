"""Colours stay apart for those who see fewer of them, as Machado et al. (2009) model it."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from pyramidai_mpi.export.picture import score_colour
from pyramidai_mpi.view.colours import ANNOTATION, POSITIVE, TISSUE, UNREADABLE_LIGHT, ZOOMED, stopped

# Machado, Oliveira, Fernandes (2009), table of matrices for severity 1.0, on linear RGB
SEEN = {
    "all": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
JUST_NOTICEABLE = 2.3


def as_seen_by(who: str, colours) -> np.ndarray:
    share = np.asarray(colours, float) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.asarray(SEEN[who]).T, 0, 1)
    return rgb2lab(np.where(seen <= 0.0031308, seen * 12.92, 1.055 * seen ** (1 / 2.4) - 0.055))


def least_difference(who: str, colours) -> float:
    seen = as_seen_by(who, colours)
    return min(float(deltaE_ciede2000(seen[a], seen[b])) for a, b in combinations(range(len(seen)), 2))


@pytest.mark.parametrize("who", SEEN)
@pytest.mark.parametrize("n_levels", [1, 2, 3, 4])
def test_no_two_decisions_look_alike(who, n_levels):
    colours = [POSITIVE, ZOOMED, UNREADABLE_LIGHT, *(stopped(level, n_levels) for level in range(n_levels))]
    assert least_difference(who, colours) > 3 * JUST_NOTICEABLE


@pytest.mark.parametrize("who", SEEN)
def test_no_two_lines_look_alike(who):
    assert least_difference(who, [POSITIVE, TISSUE, ANNOTATION]) > 5 * JUST_NOTICEABLE


@pytest.mark.parametrize("who", SEEN)
def test_no_two_quarters_of_the_scores_look_alike(who):
    assert least_difference(who, score_colour(np.linspace(0, 1, 5))) > 3 * JUST_NOTICEABLE


def test_a_difference_of_green_and_red_alone_would_not_do():
    assert least_difference("no green", [(182, 96, 61), (120, 122, 60)]) < 3 * JUST_NOTICEABLE
