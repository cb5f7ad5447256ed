"""Blocks of windows in one pass of a network: whether a model allows it, found out for all ranks, and the passes."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import PyramidError, UsageError
from pyramidai_mpi.ranks.collectives import agree, on_rank0, share_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.dense.engine import SharedEngine
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.strides import LevelPlan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BlockPass:
    """One level's pass.

    Attributes
    ----------
    engine
        Computes a block.
    window_cost
        Multiplications with additions of one window by itself. Costs are counted, not measured: that ranks and starts
        choose alike is what makes their results the same.
    always
        Whether blocks are done in one pass whatever it costs.
    """

    engine: SharedEngine
    window_cost: int
    always: bool

    def predict(self, region: RgbArray) -> npt.NDArray[np.float32]:
        """See `analyses.dense.SharedPass`."""
        return self.engine.predict(region)

    def is_worth(self, n_windows: int) -> bool:
        """See `analyses.dense.SharedPass`."""
        return n_windows > 0 and (self.always or self.engine.cost <= n_windows * self.window_cost)


def load_passes(
    comm: MPI.Intracomm, settings: RunSettings, package: ModelPackage, plan: LevelPlan
) -> dict[int, BlockPass]:
    """Load what computes blocks in one pass, by level, where that is asked for. Collective.

    Raises
    ------
    UsageError
        On all ranks, when the network's answers would change and that is not allowed.
    InputError
        On all ranks, when it cannot be computed for many windows at once.
    """
    if not settings.windows.is_shared or plan.rule is None:
        return {}
    # load the onnx library, which other runs then need not
    from pyramidai_mpi.models.dense.block_graphs import cost_of_window
    from pyramidai_mpi.models.dense.engine import SharedEngine
    from pyramidai_mpi.models.dense.sharing import try_sharing

    network = package.levels[plan.levels.each[0].network]

    def try_it() -> bytes:
        found = try_sharing(network, package)
        if not found.exact and not settings.windows.allow_approximate:
            raise UsageError(
                f"{network.onnx_path}: its windows cannot share one pass: {found.reason}; use --stride-mode "
                f"{'adaptive' if settings.windows.is_adaptive else 'window'}, a network without padding (--model "
                "small-valid; train --arch small-valid makes them), or accept the change with --allow-approximate"
            )
        return json.dumps([found.exact, found.reason]).encode()

    exact, reason = json.loads(share_bytes(comm, on_rank0(comm, try_it)))
    if not exact and comm.rank == 0:
        log.warning("%s: scores of windows that share one pass are approximate: %s", network.onnx_path, reason)
    passes: dict[int, BlockPass] = {}
    error: PyramidError | None = None
    try:
        window_cost = cost_of_window(network, package)
        for n in range(plan.levels.n_blocks):
            one = plan.levels.each[n]
            engine = SharedEngine(network, package, one.cell, one.block)
            passes[n] = BlockPass(engine, window_cost, always=not settings.windows.is_adaptive)
    except PyramidError as caught:
        error = caught
    agree(comm, error)
    return passes


def error_in(records: npt.NDArray[np.void], thresholds: Sequence[float]) -> dict[str, float | int]:
    """What sharing passes has changed on a slide, for `/execution`: of windows that were computed by themselves, too.

    Parameters
    ----------
    records
        Of the slide's tiles, with ``compared``.
    thresholds
        Of the run's levels.

    Returns
    -------
    dict
        ``approximate_windows``, how many were compared; of the absolute differences of their scores
        ``approximate_mean``, ``approximate_95`` (which 5 % of them exceed) and ``approximate_largest``; and
        ``approximate_decisions``, the share of the decisions that differ. Empty where none was compared.
    """
    pairs = records["compared"].astype(np.float64)
    limits = np.asarray(thresholds)[records["level"]][:, None] * np.ones(pairs.shape[1])
    there = np.isfinite(pairs).all(axis=2)
    shared, alone, limit = pairs[there][:, 0], pairs[there][:, 1], limits[there]
    if not len(shared):
        return {}
    difference = np.abs(shared - alone)
    return {
        "approximate_windows": len(difference),
        "approximate_mean": float(difference.mean()),
        "approximate_95": float(np.quantile(difference, 0.95)),
        "approximate_largest": float(difference.max()),
        "approximate_decisions": float(((shared >= limit) != (alone >= limit)).mean()),
    }


def error_of_parts(parts: Sequence[Mapping[str, Any]]) -> dict[str, float | int]:
    """As `error_in` of a slide that was done in parts, from the attributes of each.

    ``approximate_95`` is the largest of the parts', so that 5 % exceed it at most.
    """
    told = [part for part in parts if "approximate_windows" in part]
    if not told:
        return {}
    windows = [int(part["approximate_windows"]) for part in told]

    def mean(name: str) -> float:
        return sum(n * float(part[name]) for n, part in zip(windows, told, strict=True)) / sum(windows)

    return {
        "approximate_windows": sum(windows),
        "approximate_mean": mean("approximate_mean"),
        "approximate_95": max(float(part["approximate_95"]) for part in told),
        "approximate_largest": max(float(part["approximate_largest"]) for part in told),
        "approximate_decisions": mean("approximate_decisions"),
    }


def error_in_words(facts: Mapping[str, Any]) -> str:
    """One line from what `error_in` gives; empty for nothing."""
    if "approximate_windows" not in facts:
        return ""
    n_windows = int(facts["approximate_windows"])
    return (
        f"approximate: of {n_windows} windows that were computed by themselves, too, scores differ by "
        f"{facts['approximate_mean']:.2g} on average, by more than {facts['approximate_95']:.2g} in 5 %; "
        f"{round(facts['approximate_decisions'] * n_windows)} of their decisions differ, and the largest difference "
        f"seen is {facts['approximate_largest']:.2g}: among all windows there are larger ones"
    )
