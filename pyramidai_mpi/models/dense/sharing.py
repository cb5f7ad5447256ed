"""Whether windows can share a package's networks: found out by trial.

Windows one by one and the shared pass are compared on the same made-up region. What the graph says of itself, padding
for one, only gives the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.dense.block import windows_of
from pyramidai_mpi.models.dense.block_graphs import cost_alone, graphs_of
from pyramidai_mpi.models.dense.engine import SharedEngine
from pyramidai_mpi.models.dense.layers import layers_of
from pyramidai_mpi.models.dense.window_graph import UnsharableError, read_window_graph
from pyramidai_mpi.models.engines.fixed_batch import sample_tiles
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.dense.layers import Layer
    from pyramidai_mpi.models.dense.window_graph import WindowGraph
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

TOLERANCE = 1e-5
"""Largest difference of a probability that counts as rounding."""
LOGIT_TOLERANCE = 1e-4
"""The same of what the last softmax or sigmoid is given, as a share of its largest value: where probabilities of the
made-up pixels are all 0 or 1 they would hide what padding does."""
_BLOCK = 8
"""Windows along the side of the block that is tried: four in each phase, at half the network's own stride."""
_COMPARED = 3
"""Windows along the side of those that are computed by themselves, too: the block's corners, middle and edges."""


@dataclass(frozen=True)
class Sharing:
    """Whether the windows of a block can share one level's network.

    Attributes
    ----------
    level
        The level.
    exact
        Whether the shared pass gives what windows by themselves give, within `TOLERANCE`.
    reason
        Why not, in words; empty where it is exact.
    own_stride
        The network's own stride in pixels: finer ones take phases; None where the network cannot be computed so at all.
    tried_stride
        Pixels from one window to the next in the trial; None where there was none.
    difference
        Largest difference of a probability in the trial; None where there was none.
    window_cost
        Multiplications with additions of a window by itself; None where they cannot be counted.
    shared_cost
        The same for each window of the block that was tried; None as above.
    """

    level: int
    exact: bool
    reason: str = ""
    own_stride: int | None = None
    tried_stride: int | None = None
    difference: float | None = None
    window_cost: int | None = None
    shared_cost: float | None = None

    @property
    def in_words(self) -> str:
        """One line for people."""
        if not self.exact:
            return f"overlapping windows cannot share its work: {self.reason}"
        assert self.window_cost is not None
        assert self.shared_cost is not None
        gain = self.window_cost / self.shared_cost
        return (
            f"overlapping windows can share its work (probabilities differ by {self.difference:.0e}); its maps have "
            f"a value every {self.own_stride} px; a window at stride {self.tried_stride} costs 1/{gain:.3g} of one"
        )


def sharing_of(package: ModelPackage, *, stride: int | None = None, block: int = _BLOCK) -> tuple[Sharing, ...]:
    """Try each level of a package, level 0 first.

    Parameters
    ----------
    package
        The package.
    stride, block
        What to try: pixels from one window to the next, half the network's own stride where None; windows along the
        side of the block.
    """
    return tuple(try_sharing(level, package, stride=stride, block=block) for level in package.levels)


def try_sharing(level: ModelLevel, package: ModelPackage, *, stride: int | None = None, block: int = _BLOCK) -> Sharing:
    """Try one level, see `sharing_of`.

    Compared are 3 x 3 windows of the block, its corners among them.

    Raises
    ------
    InputError
        When the network itself cannot be loaded or run.
    """
    if package.sees_position:
        return Sharing(level.level, exact=False, reason="is told where each window lies (inputs: [position])")
    try:
        graph = read_window_graph(level, package)
        layers = layers_of(graph)
        own = layers[-1].outputs[0].step
        tried = stride or max(1, own // 2)
        engine = SharedEngine(level, package, tried, block, graphs=graphs_of(graph, tried, block))
        region = sample_tiles(1, engine.region)[0]
        together = engine.predict(region)
    except UnsharableError as error:
        return Sharing(level.level, exact=False, reason=error.reason)
    except InputError as error:
        return Sharing(level.level, exact=False, reason=str(error))
    chosen = np.unique(np.linspace(0, block - 1, min(block, _COMPARED)).round().astype(int))
    windows = windows_of(region, package.tile_size, tried, chosen)
    expected = OnnxEngine(level, package).predict(windows)[0]
    difference = float(np.abs(together[np.ix_(chosen, chosen)].reshape(expected.shape) - expected).max())
    change = f"probabilities change by up to {difference:.2g}"
    exact = difference <= TOLERANCE  # not so for NaN
    if exact:
        hidden = _difference_of_logits(engine, level, package, graph.logits(), region, chosen)
        change = f"what its last softmax or sigmoid is given changes by {hidden:.2g} of its largest value"
        exact = hidden <= LOGIT_TOLERANCE
    reason = "" if exact else f"{_cause(layers)}: {change}"
    costs = cost_alone(layers), engine.cost / block**2
    return Sharing(level.level, exact, reason, own, tried, difference, *costs)


def _cause(layers: Sequence[Layer]) -> str:
    """Why a network is not the same for many windows, as its layers say."""
    if any(layer.pads for layer in layers):
        return "pads its maps"
    if any(layer.node.op_type == "QuantizeLinear" for layer in layers):
        return "rounds to whole numbers, some of which fall the other way"
    return "looks beyond what windows share"


def _difference_of_logits(
    engine: SharedEngine,
    level: ModelLevel,
    package: ModelPackage,
    logits: WindowGraph,
    region: RgbArray,
    chosen: npt.NDArray[np.integer],
) -> float:
    """Largest difference of what the last softmax or sigmoid is given, as a share of its largest value."""
    stride, block = engine.graphs.stride, engine.graphs.block
    shared, alone = (
        SharedEngine(level, package, stride, size, graphs=graphs_of(logits, stride, size)) for size in (block, 1)
    )
    whole = shared.predict(region)[np.ix_(chosen, chosen)]
    windows = windows_of(region, package.tile_size, stride, chosen)
    expected = np.stack([alone.predict(window)[0, 0] for window in windows]).reshape(whole.shape)
    return float(np.abs(whole - expected).max() / max(float(np.abs(expected).max()), 1e-6))
