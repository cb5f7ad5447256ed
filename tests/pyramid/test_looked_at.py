"""What a result did not look at follows from its counts of tiles."""

from __future__ import annotations

import pytest

from pyramidai_mpi.pyramid.looked_at import warning_of


@pytest.mark.parametrize(
    ("tiles", "unreadable", "said"),
    [
        ((0, 0, 0), (0, 0, 0), "no tissue found"),
        ((64, 16, 4), (64, 16, 4), "none of its 84 tiles could be read"),
        ((5,), (5,), "none of its 5 tiles could be read"),
        ((0, 0, 4), (0, 0, 0), "no tile was zoomed into of the 4 of level 2"),
        ((0, 16, 4), (0, 3, 1), "no tile was zoomed into of the 16 of level 1"),
        ((64, 16, 4), (64, 0, 0), "none of its 64 tiles could be read"),
        ((64, 16, 4), (63, 16, 4), ""),
        ((64, 0, 0), (0, 0, 0), ""),
        ((1, 0, 0), (0, 0, 0), ""),
    ],
)
def test_it_is_said_when_nothing_was_looked_at(tiles, unreadable, said):
    warning = warning_of(tiles, unreadable)
    assert said in warning
    assert bool(warning) == bool(said)
