"""Read and load the networks of a package, after a trial or not: run_networks.py FOLDER [trial] [openvino].

Prints what each rank did and holds: how many files it hashed, networks it tried, networks it loaded from their files;
batch shape and number of features of each network; the probabilities that its networks give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mpi4py import MPI

from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.models.engines.fixed_batch import sample_tiles
from pyramidai_mpi.run import networks

hashed, tried, from_files = [], [], []
plain_hash, plain_settle, plain_load = networks.file_sha256, networks.settle_batch_shape, networks.load_engine


def hash_file(path):
    hashed.append(path)
    return plain_hash(path)


def settle(engine, side):
    tried.append(engine)
    return plain_settle(engine, side)


def load(level, *arguments, compiled=b"", **options):
    if not compiled:
        from_files.append(level.level)
    return plain_load(level, *arguments, compiled=compiled, **options)


networks.file_sha256, networks.settle_batch_shape, networks.load_engine = hash_file, settle, load
comm = MPI.COMM_WORLD
backend = "openvino" if "openvino" in sys.argv else "onnxruntime"
settings = RunSettings.of(slide=Path("none.tif"), model=Path(sys.argv[1]), output=Path("none.h5"), backend=backend)
with networks.begin_trial(comm, settings) as trial:
    package = networks.agree_on_package(comm, settings)
    if "trial" in sys.argv:
        settings = networks.settle_backend(comm, settings, package, trial)
    engines = networks.build_engines(comm, package, settings, trial if "trial" in sys.argv else None)
held = [(engine.batch_shape, engine.n_features) for engine in engines]
given = [engine.predict(sample_tiles(5, package.tile_size))[0].tobytes().hex() for engine in engines]
reports = comm.gather((len(hashed), len(tried), len(from_files), held, given))
if comm.rank == 0:
    print(json.dumps(reports))
