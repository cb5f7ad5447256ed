"""Read and load the networks of a package, after a trial or not: run_networks.py FOLDER [trial].

Prints what each rank did and holds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mpi4py import MPI

from pyramidai_mpi import networks
from pyramidai_mpi.config import RunSettings
from pyramidai_mpi.inference.package import ModelLevel

hashed, tried = [], []
plain_hash, plain_settle = ModelLevel.hash_file, networks.settle_batch_shape


def hash_file(level):
    hashed.append(level.level)
    return plain_hash(level)


def settle(engine, side):
    tried.append(engine)
    return plain_settle(engine, side)


ModelLevel.hash_file, networks.settle_batch_shape = hash_file, settle
comm = MPI.COMM_WORLD
settings = RunSettings(slide=Path("none.tif"), model=Path(sys.argv[1]), output=Path("none.h5"))
with networks.begin_trial(comm, settings) as trial:
    package = networks.agree_on_package(comm, settings)
    if "trial" in sys.argv:
        settings = networks.settle_backend(comm, settings, package, trial)
    engines = networks.build_engines(comm, package, settings, trial if "trial" in sys.argv else None)
held = [(engine.batch_shape, engine.n_features) for engine in engines]
reports = comm.gather((len(hashed), len(tried), held))
if comm.rank == 0:
    print(json.dumps(reports))
