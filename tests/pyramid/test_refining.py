"""Which cells of a block are refined, against a loop over cells and neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.types import WindowState
from pyramidai_mpi.pyramid.dense_map import DenseMap
from pyramidai_mpi.pyramid.grid import stride_margin
from pyramidai_mpi.pyramid.refining import Band, Ring, in_doubt


@pytest.mark.parametrize("side", [1, 2, 7, 8])
@pytest.mark.parametrize("ring", [Ring(), Ring(before=1), Ring(after=1), Ring(1, 1)])
def test_cells_in_doubt_are_those_that_a_loop_finds(side: int, ring: Ring) -> None:
    rng = np.random.default_rng(side)
    whole = side + ring.width
    score = rng.random((40, whole, whole)).astype(np.float32) ** 3
    state = rng.choice(list(map(int, WindowState)), (40, whole, whole), p=[0.1, 0.4, 0.2, 0.2, 0.1]).astype(np.uint8)
    found = in_doubt(score, state, Band(0.2, 0.7, 0.25), ring)
    known = {WindowState.LOOKED, WindowState.SAME, WindowState.COARSER}
    steps = range(-ring.before, ring.after + 1)
    for n in range(40):
        for row in range(side):
            for col in range(side):
                y, x = row + ring.before, col + ring.before
                own, kind = float(score[n, y, x]), state[n, y, x]
                around = [
                    float(score[n, y + down, x + right])
                    for down in steps
                    for right in steps
                    if state[n, y + down, x + right] in known
                ]
                doubt = 0.2 <= own <= 0.7 or any(abs(other - own) > 0.25 for other in around)
                looked = kind in {WindowState.LOOKED, WindowState.SAME}
                assert found[n, row, col] == (kind == WindowState.UNREADABLE or (looked and doubt))


@pytest.mark.parametrize(
    ("coarse", "fine", "expected"),
    [(128, 64, Ring(1, 0)), (32, 16, Ring(1, 0)), (112, 16, Ring(0, 1)), (224, 16, Ring(1, 1)), (112, 56, Ring(0, 1))],
)
def test_the_ring_lies_where_a_cells_ground_is_between_its_window_and_the_neighbours(coarse, fine, expected) -> None:
    coarse_margin, fine_margin = (stride_margin(stride, 224) for stride in (coarse, fine))
    assert Ring.around(coarse_margin, fine_margin, coarse, fine) == expected
    # cell 0: its window's middle, and where its finer cells' windows have theirs
    middle = 112 - coarse_margin
    finer = [col * fine - fine_margin + 112 for col in range(coarse // fine)]
    assert middle in finer
    assert (min(finer) < middle, max(finer) > middle) == (bool(expected.before), bool(expected.after))


@pytest.mark.parametrize("stride", [1, 3, 7, 16, 32, 50, 64, 100, 112, 150, 224])
@pytest.mark.parametrize("times", [2, 3, 7])
def test_the_windows_of_a_coarser_stride_are_among_the_finer_ones_and_in_their_cells(stride: int, times: int) -> None:
    window, cols = 224, np.arange(30)
    fine, coarse = stride_margin(stride, window), stride_margin(stride * times, window)
    corners = cols * stride * times - coarse
    assert np.isin(corners % stride, 0).all()
    finer_cols = (corners + fine) // stride
    assert (finer_cols // times == cols).all()
    middle = corners + window // 2
    assert (middle // (stride * times) == cols).all()


@pytest.mark.parametrize("times", [2, 4, 7])
def test_a_subsample_has_the_scores_of_the_windows_at_its_corners(times: int) -> None:
    rows, cols, stride, window = 61, 45, 16, 224
    margin = stride_margin(stride, window)
    score = np.arange(rows * cols, dtype=np.float32).reshape(rows, cols)
    whole = DenseMap(score, np.full((rows, cols), stride, np.uint16), stride, window, margin, 1.0, 0.25, 0.5)
    at = {(c * stride - margin, r * stride - margin): score[r, c] for r in range(rows) for c in range(cols)}
    part = whole.subsample(times)
    for r in range(part.score.shape[0]):
        for c in range(part.score.shape[1]):
            expected = at.get((c * part.cell - part.margin, r * part.cell - part.margin))
            assert np.isnan(part.score[r, c]) if expected is None else part.score[r, c] == expected
            assert (part.stride[r, c] == 0) == (expected is None)
