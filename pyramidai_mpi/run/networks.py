"""The networks of a run: read, tried and loaded on all ranks, with the work shared among the ranks of a machine."""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import nullcontext
from typing import TYPE_CHECKING, cast

import numpy as np

from pyramidai_mpi.base.errors import InputError, PyramidError, UsageError
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.models.engines.backends import SHARING, choose_backend
from pyramidai_mpi.models.engines.network_cache import NetworkCache, facts_of
from pyramidai_mpi.models.engines.ready_network import ReadyNetwork
from pyramidai_mpi.models.engines.trial import found_in_trial, try_loading
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.shipped import is_shipped
from pyramidai_mpi.process.host import cpu_description, machine_id
from pyramidai_mpi.ranks.collectives import agree, agree_on, allgather, on_rank0, ranks_alike, share_bytes
from pyramidai_mpi.run.aggregation import check_aggregation, keeps_features
from pyramidai_mpi.run.encoding import check_encoder, with_encoder
from pyramidai_mpi.run.strides import plan_levels_of_run
from pyramidai_mpi.store.journal.folder import JournalFolder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.engines.network_cache import CachedNetwork
    from pyramidai_mpi.models.engines.on_demand import EngineOnDemand
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.process.sandbox import Trial

log = logging.getLogger(__name__)


def open_package(folder: Path, *, check_networks: bool) -> ModelPackage:
    """Read a model package and, on request, check its networks' shapes, types and opset, and that they load and run.

    Raises
    ------
    InputError
        When anything in it does not fit.
    """
    package = read_package(folder)
    if check_networks and is_shipped(folder):
        _check_shipped(package)
    elif check_networks:
        with try_loading(folder) as trial:
            trial.check()
    return package


def begin_trial(comm: MPI.Intracomm, settings: RunSettings) -> AbstractContextManager[Trial | None]:
    """Have a child of rank 0 try the model's networks, while the ranks do what needs none; see `settle_backend`.

    There is nothing to try of networks that an earlier start has made ready on such a machine.
    """
    if comm.rank != 0 or is_shipped(settings.model.path) or _are_ready(settings):
        return nullcontext()
    return try_loading(settings.model.path, settle=settings.model.backend != "openvino")


def _are_ready(settings: RunSettings) -> bool:
    """Whether the user's cache has all networks of a model, as far as its description tells; it may still be wrong."""
    try:
        package = read_package(settings.model.path, check_files=False)
    except PyramidError:
        return False  # all ranks will meet it together
    if package.aggregator is not None:
        return False
    return all(entry is not None for entry in _ready_networks(package, settings))


def _ready_networks(package: ModelPackage, settings: RunSettings) -> list[CachedNetwork | None]:
    """What the cache has of a model's networks, level 0 first."""
    model, cache = settings.model, _cache_for(settings)
    library = "onnxruntime" if model.backend == "auto" else model.backend
    return [cache.find(facts_of(level, package, library, model.precision)) for level in package.levels]


def _cache_for(settings: RunSettings) -> NetworkCache:
    model = settings.model
    # of the shipped networks there is nothing to find out that would take longer than looking here
    is_quick = model.backend == "onnxruntime" and is_shipped(model.path)
    return NetworkCache.of_user() if model.compiled_cache and not is_quick else NetworkCache(None)


def are_ready_on_all(comm: MPI.Intracomm, settings: RunSettings, package: ModelPackage, trial: Trial | None) -> bool:
    """Whether nothing is left to find out about the networks, so that they can be loaded at once. Collective."""
    ready = trial is None or comm.rank != 0
    ready = ready and settings.model.backend != "auto" and None not in _ready_networks(package, settings)
    return bool(allgather(comm, np.array([ready])).all())


def agree_on_package(comm: MPI.Intracomm, settings: RunSettings, otherwise_positive: str | None = None) -> ModelPackage:
    """Read the model of a run, the same on all ranks. Collective.

    Parameters
    ----------
    otherwise_positive
        The option ``--class`` of commands that have it and no ``--positive-class``: stands for the positive class of a
        model that names none; "" where it was not given. None for other commands.

    Raises
    ------
    PyramidError
        The same on all ranks: a bad model, options that do not fit it, or a rank that sees another one.
    """
    package, error = None, None
    try:
        package = read_package(settings.model.path, check_files=False)
        if otherwise_positive is None:
            package = package.with_positive_class(settings.model.positive_class)
        elif package.is_encoder:
            raise InputError(f"{settings.model.path}: is an encoder, which has no class to explain; use a classifier")
        elif package.positive_class is None:
            package = package.with_positive_class(otherwise_positive or None, "--class")
        thresholds = package.thresholds(settings.model.thresholds)
        check_aggregation(settings, package)
        package = with_encoder(settings, package)
        plan_levels_of_run(settings, package)
        if settings.slide.regions.no_tissue and package.stain_target is not None:
            raise UsageError(
                f"{settings.model.path}: normalises the stain of tissue, and --no-tissue leaves that out; use a model "
                "without stain normalisation, or say with --tissue-mask where the tissue is"
            )
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    assert package is not None
    texts = [one.yaml_text for one in (package, package.encoder) if one is not None]
    facts = [[network.sha256 for network in package.networks], thresholds, texts, package.positive_class]
    agree_on(comm, hashlib.sha256(json.dumps(facts).encode()).digest(), f"{settings.model.path}: the model")
    _check_files(comm, package)
    return package


def settle_backend(
    comm: MPI.Intracomm, settings: RunSettings, package: ModelPackage, trial: Trial | None
) -> RunSettings:
    """Settings with a backend that all ranks use, after the end of the networks' trial. Collective.

    Rank 0 measures for all where the backend is left to us. A run that goes on from a journal keeps the journal's.

    Parameters
    ----------
    trial
        What `begin_trial` has begun.

    Raises
    ------
    InputError
        On all ranks, when the networks have not passed their trial, or onnxruntime cannot load or run one.
    """

    def choose() -> bytes:
        if trial is not None:
            trial.check()
        elif None in _ready_networks(package, settings):
            _check_shipped(package)
        if settings.model.backend != "auto":
            return settings.model.backend.encode()
        folder = JournalFolder.of(settings.output.path)
        manifest = folder.manifest() if settings.output.resume and folder.exists else None
        return (choose_backend(package) if manifest is None else str(manifest.facts["backend"])).encode()

    chosen = on_rank0(comm, choose)
    return settings.with_model(backend=share_bytes(comm, chosen).decode())


def build_engines(
    comm: MPI.Intracomm, package: ModelPackage, settings: RunSettings, trial: Trial | None = None
) -> list[EngineOnDemand]:
    """Make the networks ready and settle the batch shape that all ranks use; they are loaded when needed. Collective.

    Each network is made ready once a machine, as equal processors and libraries give equal results: by the trial where
    rank 0 is, by one rank for each level elsewhere, or by an earlier start.

    Parameters
    ----------
    comm
        The ranks.
    package
        The model.
    settings
        With a settled backend (see `settle_backend`).
    trial
        What `begin_trial` has begun and `settle_backend` has seen the end of; None for none.

    Raises
    ------
    PyramidError
        When the backend is not there, or cannot load or run a network.
    """
    alike = ranks_alike(comm, machine_id() + cpu_description().encode())
    # batch shape and number of features, 0 where nobody has looked or another rank does
    found = _found_in_trial(comm, package, settings, trial)
    if 0 not in alike:
        found[:] = 0
    networks = _make_ready(comm, package, settings, alike, found)
    everyone = allgather(comm, found.reshape(-1)).reshape(comm.size, package.n_levels, 2)
    engines, error = [], None
    try:
        for n, network in enumerate(networks):
            looked = everyone[everyone[:, n, 0] > 0, n]
            shape, n_features = int(looked[:, 0].min()), int(looked[0, 1])
            if shape != package.levels[n].batch and comm.rank == 0:
                log.warning("the network of level %d depends on its batch, so it runs one tile at a time", n)
            engines.append(network.on_demand(shape, n_features))
            if keeps_features(settings, package) and not n_features:
                path = package.levels[n].onnx_path
                way = "run without --features" if settings.model.features else "the package's aggregator needs them"
                raise InputError(f"{path}: has no second output, so no features; {way}")
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    return engines


def warn_of_use(comm: MPI.Intracomm, package: ModelPackage) -> None:
    """Say on rank 0 where scores mean nothing, once work begins: what ends a run before that is told alone."""
    for one in (package, package.encoder):
        if comm.rank == 0 and one is not None and scores_mean_nothing(one.intended_use):
            log.warning("model %s: %s", one.name, claim_of(one.intended_use))


def load_encoder(comm: MPI.Intracomm, package: ModelPackage, settings: RunSettings) -> EngineOnDemand | None:
    """The network of the encoder beside a model, tried and loaded; None where there is none. Collective.

    Raises
    ------
    PyramidError
        As `build_engines`.
    """
    if package.encoder is None:
        return None
    on_rank0(comm, lambda: check_encoder(package))
    (engine,) = build_engines(comm, package.encoder, settings)
    return engine


def _make_ready(
    comm: MPI.Intracomm,
    package: ModelPackage,
    settings: RunSettings,
    alike: Sequence[int],
    found: npt.NDArray[np.int64],
) -> list[ReadyNetwork]:
    """All networks, ready to be loaded; `found` gets what this rank has to find. Collective.

    What takes long to compile is compiled by one rank of a machine, and handed on to the others: by the user's cache,
    or where there is none by messages.
    """
    in_charge = [_rank_in_charge(level.level, alike) for level in package.levels]
    networks = [ReadyNetwork(level, package, settings.model, _cache_for(settings)) for level in package.levels]
    error = None
    try:
        for n, network in enumerate(networks):
            if comm.rank == in_charge[n]:
                network.make_ready(found[n])
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    if settings.model.backend not in SHARING:
        return networks
    machine = cast("MPI.Intracomm", comm.Split(alike[0], comm.rank))
    lacking = [int(comm.rank != who and one.look() is None) for one, who in zip(networks, in_charge, strict=True)]
    anyone = allgather(machine, np.array(lacking)).any(axis=0)
    for n in np.flatnonzero(anyone).tolist():
        own = networks[n].to_bytes() if comm.rank == in_charge[n] else None
        shared = share_bytes(machine, own, alike.index(in_charge[n]))
        if lacking[n]:
            networks[n].take(shared)
    machine.Free()
    return networks


def _found_in_trial(
    comm: MPI.Intracomm, package: ModelPackage, settings: RunSettings, trial: Trial | None
) -> npt.NDArray[np.int64]:
    """What rank 0's trial has found for the run's backend, int64 (levels, 2), 0 for nothing. Collective."""
    found = np.zeros((package.n_levels, 2), np.int64)
    if trial is not None and settings.model.backend == "onnxruntime":
        answer = found_in_trial(trial.check(), [level.batch for level in package.levels])
        found[:] = 0 if answer is None else answer
    shared = share_bytes(comm, found.tobytes() if comm.rank == 0 else None)
    return np.frombuffer(shared, np.int64).reshape(found.shape).copy()


def _check_files(comm: MPI.Intracomm, package: ModelPackage) -> None:
    """Compare the networks' files with their hashes; ranks that see the very same files read each once. Collective."""
    networks = package.networks
    digests = np.zeros((len(networks), 4), np.int64)  # 32 bytes each
    error = None
    seen = b""
    try:
        seen = package.stamp()
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    alike = ranks_alike(comm, machine_id() + seen)
    try:
        for n, network in enumerate(networks):
            if comm.rank == _rank_in_charge(n, alike):
                digests[n] = np.frombuffer(bytes.fromhex(file_sha256(network.onnx_path)), np.int64)
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    everyone = allgather(comm, digests.reshape(-1)).reshape(comm.size, len(networks), 4)
    try:
        for n, network in enumerate(networks):
            digest = everyone[_rank_in_charge(n, alike), n].tobytes().hex()
            package.check_digest(network, digest)
    except PyramidError as caught:
        error = caught
    agree(comm, error)


def _rank_in_charge(level: int, alike: Sequence[int]) -> int:
    """Who of some ranks does a level's work for them: the last first, as rank 0 has more to do than the others."""
    return alike[-1 - level % len(alike)]


def _check_shipped(package: ModelPackage) -> None:
    """Without a trial: as trustworthy as the program that it came with."""
    # loads the onnx library, which the other ranks then need not
    from pyramidai_mpi.models.check import check_network

    for level in package.levels:
        check_network(level, package)
