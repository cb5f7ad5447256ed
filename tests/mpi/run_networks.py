"""Read and load the networks of a package: run_networks.py FOLDER; prints what each rank did and holds."""

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
package = networks.agree_on_package(comm, settings)
engines = networks.build_engines(comm, package, settings)
held = [(engine.batch_shape, engine.n_features) for engine in engines]
reports = comm.gather((len(hashed), len(tried), held))
if comm.rank == 0:
    print(json.dumps(reports))
