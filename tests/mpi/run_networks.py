"""Read and load the networks of a package: run_networks.py FOLDER [trial] [openvino] [cache].

Prints what each rank did and holds: how many files it hashed, networks it tried, networks it made from their files;
batch shape and number of features of each network; the probabilities that its networks give.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mpi4py import MPI

from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.models.engines import on_demand, ready_network
from pyramidai_mpi.models.engines.fixed_batch import sample_tiles
from pyramidai_mpi.run import networks

hashed, tried, from_files = [], [], []
plain_hash, plain_settle = networks.file_sha256, ready_network.settle_batch_shape
plain_load = ready_network.load_engine


def hash_file(path):
    hashed.append(path)
    return plain_hash(path)


def settle(engine, side):
    tried.append(engine)
    return plain_settle(engine, side)


def load(level, *arguments, compiled=None, **options):
    if compiled is None:
        from_files.append(level.level)
    return plain_load(level, *arguments, compiled=compiled, **options)


networks.file_sha256, ready_network.settle_batch_shape = hash_file, settle
ready_network.load_engine = on_demand.load_engine = load
comm = MPI.COMM_WORLD
backend = "openvino" if "openvino" in sys.argv else "onnxruntime"
settings = RunSettings.of(
    slide=Path("none.tif"),
    model=Path(sys.argv[1]),
    output=Path("none.h5"),
    backend=backend,
    compiled_cache="cache" in sys.argv,
)
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
