"""Exchange features between ranks in blocks of a few rows, to one writer and to all."""

from __future__ import annotations

import numpy as np
from mpi4py import MPI

from pyramidai_mpi.run import write
from pyramidai_mpi.store.files.feature_spool import FeatureSpool

WIDTH, N_ROWS = 5, 101
comm = MPI.COMM_WORLD
owner = np.random.default_rng(1).integers(0, comm.size, N_ROWS)
owner[:40] = comm.size - 1  # a long run of rows on one rank
everything = np.random.default_rng(2).random((N_ROWS, WIDTH), np.float32)
own_rows = np.random.default_rng(3).permutation(np.flatnonzero(owner == comm.rank))
spool = FeatureSpool()
spool.append(1, everything[own_rows])
for block_rows in (1, 3, 1000):
    write.FEATURE_BLOCK_BYTES = 4 * WIDTH * block_rows * comm.size
    for n_writers in (1, comm.size):
        shares = write.even_shares(N_ROWS, n_writers)
        first, last = shares[comm.rank] if comm.rank < n_writers else (0, 0)
        written = np.full((N_ROWS, WIDTH), np.nan, np.float32)
        for start, block in write.blocks_for_writers(comm, spool, 1, own_rows, WIDTH, shares):
            written[start : start + len(block)] = block
        np.testing.assert_array_equal(written[first:last], everything[first:last])
        assert np.isnan(written[last:]).all()
        assert np.isnan(written[:first]).all()
print("exchanged", flush=True)
