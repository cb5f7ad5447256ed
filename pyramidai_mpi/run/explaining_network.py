"""The network that is explained: loaded on all ranks, with what the method needs beside it."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pyramidai_mpi.analyses.explain import Explain, MaskRounds
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.explain.choice import make_perturbation
from pyramidai_mpi.explain.methods import Fill, Method, MethodName, default_method, method_named
from pyramidai_mpi.explain.told import check_told
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.fixed_batch import settle_batch_shape
from pyramidai_mpi.ranks.collectives import allgather, on_all
from pyramidai_mpi.run.networks import agree_on_package, begin_trial, settle_backend
from pyramidai_mpi.run.stain import share_stain_engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpi4py import MPI

    from pyramidai_mpi.base.explain_order import ExplainOrder
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.backward.engine import GradientEngine
    from pyramidai_mpi.models.engines.fixed_batch import FixedBatchEngine
    from pyramidai_mpi.models.package import ModelPackage

log = logging.getLogger(__name__)

T = TypeVar("T")


def load_explained(
    comm: MPI.Intracomm, settings: RunSettings, order: ExplainOrder, meanwhile: Callable[[ModelPackage], T]
) -> tuple[ModelPackage, Explain, T]:
    """The model, what is done with the network of the level that is asked for, and what `meanwhile` gave. Collective.

    Parameters
    ----------
    meanwhile
        Done by all ranks while a child tries the networks, with their model; what it raises, it raises on all.

    Raises
    ------
    UsageError
        On all ranks: there is no such level, class, layer or number.
    InputError
        On all ranks: the network cannot be loaded or run, or has no gradients where the method needs them.
    """
    with begin_trial(comm, settings) as trial:
        package = agree_on_package(comm, settings, order.class_name)
        column = on_all(comm, lambda: _column_of(package, order))
        found = meanwhile(package)
        settle_backend(comm, settings, package, trial)
    engine = _load(comm, package, order.level)
    method, gradients = on_all(comm, lambda: _method_of(package, order))
    stain_engine = share_stain_engine(comm, package)
    if comm.rank == 0 and scores_mean_nothing(package.intended_use):
        log.warning("model %s: %s", package.name, claim_of(package.intended_use))
    explain = on_all(comm, lambda: _explain(package, order, method, gradients, engine, column))
    return package, replace(explain, stain_engine=stain_engine), found


def _column_of(package: ModelPackage, order: ExplainOrder) -> int:
    """The class's column."""
    if order.level >= package.n_levels:
        raise UsageError(f"--level {order.level}: model {package.name} has levels 0 to {package.n_levels - 1}")
    if not order.class_name:
        return package.score_column
    if order.class_name not in package.classes:
        raise UsageError(
            f"--class {order.class_name}: model {package.name} has the classes {', '.join(package.classes)}"
        )
    return package.classes.index(order.class_name)


def _load(comm: MPI.Intracomm, package: ModelPackage, level: int) -> FixedBatchEngine:
    """The level's network with the batch shape that a run would settle on. Collective."""
    engine = on_all(comm, lambda: load_engine(package.levels[level], package, "onnxruntime", probe=False))
    shape = on_all(comm, lambda: settle_batch_shape(engine, package.tile_size))
    engine.use_batch_shape(int(allgather(comm, np.array([shape])).min()))
    return engine


def _method_of(package: ModelPackage, order: ExplainOrder) -> tuple[Method, GradientEngine | None]:
    """The method that is asked for, or the best that the network allows, and its gradients."""
    # loads the onnx library
    from pyramidai_mpi.models.backward.engine import GradientEngine
    from pyramidai_mpi.models.backward.writer import NoGradientError

    level = package.levels[order.level]

    def engine_for(method: Method) -> GradientEngine:
        engine = GradientEngine(level, package, layers)
        if method.has_layer and not engine.layers:
            raise NoGradientError(level.onnx_path, "it has no maps of its tile that all goes through")
        return engine

    layers = [order.layer] if order.layer else []
    if order.method:
        method = method_named(order.method)
        return method, engine_for(method) if method.needs_gradients else None
    try:
        method = default_method(has_gradients=True)
        return method, engine_for(method)
    except NoGradientError as error:
        if order.layer:
            raise
        method = default_method(has_gradients=False)
        log.info("method %s, as there are no gradients: %s", method.name, error)
        return method, None


def _explain(
    package: ModelPackage,
    order: ExplainOrder,
    method: Method,
    gradients: GradientEngine | None,
    engine: FixedBatchEngine,
    column: int,
) -> Explain:
    check_told(method, order)  # again, where the network decides which it is
    settings = method.settings(order.asked)
    fill, side = Fill(order.fill), package.tile_size
    perturbation, layer, shape = None, "", (side, side)
    if gradients is None:
        perturbation = make_perturbation(method, side, order.asked, fill)
        shape = perturbation.map_shape
    elif method.has_layer:
        chosen = gradients.layers[0]
        layer, shape = chosen.name, chosen.shape[1:]
    return Explain(
        method=method,
        level=order.level,
        column=column,
        n_classes=len(package.classes),
        engine=engine,
        map_shape=shape,
        rounds=MaskRounds(0 if perturbation is None else perturbation.n_masks, order.until),
        seed=order.seed,
        fill=fill,
        faithfulness=order.faithfulness,
        steps=int(settings["steps"]) if method.name == MethodName.INTEGRATED_GRADIENTS else 0,
        gradients=gradients,
        layer=layer,
        perturbation=perturbation,
    )
