"""The real command on a rank that is sometimes wrong: run_lying.py RANK WHAT ONE_IN SEED ARGUMENTS...

WHAT is ``engine``: a probability, and with it perhaps the decision, is another one; ``features``: a feature's last bit;
``pixels``: a bit of what is read; ``always-engine``: as ``engine``, again and again. Tiles are chosen by a hash of
their pixels and SEED, one in ONE_IN. But for ``always-engine`` a rank lies of each tile once: by networks that are
loaded anew it finds the truth.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import mpi4py
import numpy as np

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.cli.main import main  # noqa: E402
from pyramidai_mpi.models.engines import fixed_batch  # noqa: E402
from pyramidai_mpi.slides import source  # noqa: E402


class Liar:
    """Chooses tiles by what they look like, and remembers for which it has lied."""

    def __init__(self, one_in: int, seed: int, *, always: bool) -> None:
        self._one_in, self._seed, self._always = one_in, seed, always
        self._told: set[bytes] = set()

    def lies(self, pixels: np.ndarray) -> bool:
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=8, key=self._seed.to_bytes(8, "little")).digest()
        if int.from_bytes(digest, "little") % self._one_in or (digest in self._told and not self._always):
            return False
        self._told.add(digest)
        return True


def plant_in_engine(liar: Liar, what: str) -> None:
    real = fixed_batch.FixedBatchEngine.predict

    def predict(self: Any, pixels: np.ndarray, **options: Any) -> Any:
        probability, features = real(self, pixels, **options)
        for n, tile in enumerate(pixels if what != "features" or features is not None else ()):
            if liar.lies(tile):
                if what == "features":
                    features[n : n + 1].view(np.uint32)[0, 0] ^= 1
                else:
                    probability[n] = 1 - probability[n]
        return probability, features

    fixed_batch.FixedBatchEngine.predict = predict


def plant_in_reading(liar: Liar) -> None:
    real = source.TileSource.read

    def read(self: Any, level: int, t_col: int, t_row: int) -> Any:
        found = real(self, level, t_col, t_row)
        if isinstance(found, np.ndarray) and liar.lies(found):
            found = found.copy()
            found[3, 4, 1] ^= 0x40
        return found

    source.TileSource.read = read


if __name__ == "__main__":
    rank, what, one_in, seed = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    if rank == MPI.COMM_WORLD.rank:
        liar = Liar(one_in, seed, always=what == "always-engine")
        if what == "pixels":
            plant_in_reading(liar)
        else:
            plant_in_engine(liar, what)
    main(sys.argv[5:])
