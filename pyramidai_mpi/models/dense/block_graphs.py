"""From a level's network, a stride and a block to the graphs that compute the block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.models.dense.block import BlockGraphs
from pyramidai_mpi.models.dense.graph import region_graph
from pyramidai_mpi.models.dense.lattice import Lattice
from pyramidai_mpi.models.dense.layers import layers_of, own_stride, pixels_of
from pyramidai_mpi.models.dense.plan import cheapest, cost_of
from pyramidai_mpi.models.dense.window_graph import read_window_graph

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.models.dense.block import Phase
    from pyramidai_mpi.models.dense.layers import Layer
    from pyramidai_mpi.models.dense.window_graph import WindowGraph
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

BATCH = 4
"""Windows that are computed at a time where they have been cut out of maps, as in `engines.fixed_batch`."""


def block_graphs(level: ModelLevel, package: ModelPackage, stride: int, block: int) -> BlockGraphs:
    """The graphs of a block, by the cheapest plan; parameters and errors as `engine.SharedEngine`."""
    return graphs_of(read_window_graph(level, package), stride, block)


def graphs_of(graph: WindowGraph, stride: int, block: int) -> BlockGraphs:
    """As `block_graphs`, of a network that has been read."""
    layers, pixels = layers_of(graph), pixels_of(graph)
    plan = cheapest(layers, pixels, graph.side, stride, block)
    lattice = plan.lattice
    trunk = region_graph(graph, layers[: plan.cut], lattice, pixels, 1) if plan.cut else None
    order: tuple[Phase, ...] = ((0, 0),) if trunk is None else trunk.phases
    head = None
    if plan.at is None and lattice.gap > 1:
        phases, place_of = np.zeros(block, np.int64), np.arange(block, dtype=np.int64)
    else:
        phases, place_of = lattice.found((plan.at or layers[-1].outputs[0]).step)
    if plan.at is not None:
        alone = Lattice.of(graph.side, stride, 1, [lattice.own])
        head = region_graph(graph, layers[plan.cut :], alone, plan.at, BATCH)
    number = np.zeros((lattice.phases(lattice.own),) * 2, np.int64)
    for n, phase in enumerate(order):
        number[phase] = n
    return BlockGraphs(
        window=graph.side,
        stride=stride,
        block=block,
        region=(block - 1) * stride + graph.side,
        padded_region=lattice.padded_region,
        trunk=trunk,
        head=head,
        cut=None if plan.at is None else plan.at.sides,
        cut_from_nhwc=plan.at is not None and plan.at.channels_last,
        batch_of=number[phases[:, None], phases[None, :]],
        place_of=place_of,
        own_stride=own_stride(layers),
        shared_layers=plan.cut,
        layers=len(layers),
        cost=plan.cost,
        largest_bytes=max(part.largest_bytes for part in (trunk, head) if part is not None),
    )


def cost_of_window(level: ModelLevel, package: ModelPackage) -> int:
    """Multiplications with additions of one window by itself.

    Raises
    ------
    UnsharableError
        When the network has operators that `layers` does not know.
    """
    return cost_alone(layers_of(read_window_graph(level, package)))


def cost_alone(layers: Sequence[Layer]) -> int:
    """As `cost_of_window`, of layers that are known."""
    window = layers[0].inputs[0].sides[0]
    alone = Lattice.of(window, window, 1, [own_stride(layers)])
    return sum(cost_of(layer, alone) for layer in layers)


def cost_of_block(level: ModelLevel, package: ModelPackage, stride: int, block: int) -> int:
    """Multiplications with additions of a block, as `BlockGraphs.cost`, without making its graphs.

    Raises
    ------
    UnsharableError
        As `cost_of_window`.
    """
    graph = read_window_graph(level, package)
    return cheapest(layers_of(graph), pixels_of(graph), graph.side, stride, block).cost
