"""Send files between three ranks: run_sending.py FOLDER."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

import mpi4py

mpi4py.rc.thread_level = "funneled"

from mpi4py import MPI  # noqa: E402

from pyramidai_mpi.ranks.disks import ranks_by_folder  # noqa: E402
from pyramidai_mpi.ranks.sending import PIECE_BYTES, among, spread_file  # noqa: E402

comm = MPI.COMM_WORLD
sys.excepthook = lambda *failure: (traceback.print_exception(*failure), comm.Abort(1))
folder = Path(sys.argv[1])
own = folder / f"rank{comm.rank}"
own.mkdir()
comm.Barrier()

# of several pieces, of whole pieces and of nothing, from any rank
for number, (root, size) in enumerate([(0, 2 * PIECE_BYTES + 5), (2, PIECE_BYTES), (1, 0)]):
    source, target = folder / f"source{number}", own / f"target{number}"
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    if comm.rank == root:
        source.write_bytes(data)
    error = spread_file(comm, root, source if comm.rank == root else None, None if comm.rank == root else target)
    assert error is None
    assert comm.rank == root or target.read_bytes() == data

# who cannot write takes part to the end, and says so
target = own / "missing" / "file" if comm.rank == 1 else own / "file"
error = spread_file(comm, 0, folder / "source0" if comm.rank == 0 else None, None if comm.rank == 0 else target)
assert (error is None) == (comm.rank != 1), error
assert comm.rank != 1 or "cannot be written" in str(error)

# what cannot be read is an error everywhere
error = spread_file(comm, 0, folder / "gone" if comm.rank == 0 else None, None if comm.rank == 0 else own / "gone")
assert error is not None
assert error.exit_code == 65

# some of the ranks only
with among(comm, (0, 2)) as some:
    assert (some is None) == (comm.rank == 1)
    if some is not None:
        assert some.size == 2
        assert spread_file(some, 1, folder / "source1" if comm.rank == 2 else None, own / "more") is None

# folders of their own under one name, and one folder under three names
ranks = ranks_by_folder(comm, own)
assert ranks.groups == ((0,), (1,), (2,))
assert [ranks.owner_of(slide) for slide in range(3)] == [0, 0, 0]
assert ranks.leads
assert ranks.leads_elsewhere == (comm.rank > 0)
assert ranks_by_folder(comm, folder).are_together
ranks = ranks_by_folder(comm, folder / "rank0" if comm.rank < 2 else own)
assert ranks.groups == ((0, 1), (2,))
assert [ranks.owner_of(slide) for slide in range(3)] == [0, 1, 0]
assert list(ranks.owned(3)) == [[0, 2], [1], []][comm.rank]
print("sent", flush=True)
