"""How alike feature vectors are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt


def cosines(ours: npt.NDArray[np.floating], theirs: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """Cosine of the angle between each two vectors, float64 (n,), of (n, F) and (n, F).

    Two vectors of zeros are alike, 1; one of zeros is like no other, 0; NaN where a number is not finite.
    """
    a, b = ours.astype(np.float64), theirs.astype(np.float64)
    lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
    product = lengths[0] * lengths[1]
    found = np.divide((a * b).sum(axis=1), product, out=np.zeros(len(a)), where=product != 0)
    found[(lengths[0] == 0) & (lengths[1] == 0)] = 1.0
    return np.asarray(found)
