"""What is computed for all windows at once, and what for each by itself: the cheapest, counted in multiplications.

Behind some layer the maps of the region may be cut into those of the windows, and the rest of the network computed
window by window; behind the last layer there is nothing left to cut. Cutting pays where windows lie far apart, so that
most places of the region's maps are in no window, and where the stride has many phases and each few windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.models.dense.lattice import Lattice
from pyramidai_mpi.models.dense.layers import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.models.dense.layers import Layer, Maps

MOVED = 8
"""What it costs to copy one value, in multiplications: to take phases or to cut windows out. onnxruntime multiplies and
adds about 30 times in the nanosecond that a value takes from and to memory, and these copies lie in long rows."""


@dataclass(frozen=True)
class Plan:
    """How a block is computed.

    Attributes
    ----------
    lattice
        Where its windows lie.
    cut
        How many layers are computed for the region; the others for each window.
    at
        The maps that are cut into windows; None where all is computed for the region.
    cost
        Multiplications with additions for the block, copied values counted as `MOVED` each.
    """

    lattice: Lattice
    cut: int
    at: Maps | None
    cost: int


def cheapest(layers: Sequence[Layer], pixels: Maps, window: int, stride: int, block: int) -> Plan:
    """The plan that costs least; of two that cost the same the one that shares more.

    Parameters
    ----------
    layers
        Of the network.
    pixels
        What it is given.
    window, stride, block
        Side of a window and distance of two in pixels; windows along the block's side.
    """
    lattice = Lattice.of(window, stride, block, [pixels.step, *(layer.outputs[0].step for layer in layers)])
    alone = Lattice.of(window, stride, 1, [lattice.own])
    shared, single = ([cost_of(layer, where) for layer in layers] for where in (lattice, alone))
    plans = [Plan(lattice, len(layers), None, sum(shared))]
    for cut, maps in cuts(layers, pixels):
        # a window by itself is cut out of the pixels, too
        moved = MOVED * maps.channels * maps.sides[0] * maps.sides[1] if cut else 0
        rest = block * block * (sum(single[cut:]) + moved)
        plans.append(Plan(lattice, cut, maps, sum(shared[:cut]) + rest))
    return min(plans, key=lambda plan: (plan.cost, -plan.cut))


def cuts(layers: Sequence[Layer], pixels: Maps) -> list[tuple[int, Maps]]:
    """Behind how many layers all the rest depends on one tensor alone, and which: where windows can be cut out."""
    found = [(0, pixels)]
    last_use = {maps.tensor: n for n, layer in enumerate(layers) for maps in layer.inputs}
    known = {pixels.tensor: pixels}
    for n, layer in enumerate(layers[:-1]):
        known |= {maps.tensor: maps for maps in layer.outputs}
        known = {name: maps for name, maps in known.items() if last_use.get(name, -1) > n}
        if len(known) == 1:
            (maps,) = known.values()
            if not maps.is_place and not maps.is_row:
                found.append((n + 1, maps))
    return found


def cost_of(layer: Layer, lattice: Lattice) -> int:
    """Multiplications with additions of one layer for all windows of a lattice."""
    output = layer.outputs[0]
    phases = lattice.phases(output.step)
    rows, columns = places_of(output, lattice)
    total = layer.multiplies * rows * columns
    if layer.kind is Kind.POOL:
        maps = layer.inputs[0]
        height = lattice.sides(maps.step, maps.sides)[0]
        total = maps.channels * (height * columns * maps.sides[1] + rows * columns * maps.sides[0])
    total *= phases * phases
    if phases > lattice.phases(layer.inputs[0].step):
        total += MOVED * sum(
            maps.channels * phases * phases * rows_of * columns_of
            for maps in layer.inputs
            for rows_of, columns_of in [needed(layer, maps, lattice)]
        )
    return total


def places_of(maps: Maps, lattice: Lattice) -> tuple[int, int]:
    """Rows and columns of maps in the graph for a lattice, those of one phase."""
    if maps.is_place and lattice.gap > 1:
        return lattice.block, lattice.block
    return lattice.sides(maps.step, maps.sides)


def needed(layer: Layer, maps: Maps, lattice: Lattice) -> tuple[int, int]:
    """Rows and columns that a layer takes of the maps of its input, for one phase of its output."""
    output = layer.outputs[0]
    windows = lattice.places // lattice.phases(output.step) - 1
    extra = windows * lattice.spread(output.step) * layer.stride
    return maps.sides[0] + extra, maps.sides[1] + extra
