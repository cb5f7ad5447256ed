"""The small search tree of the scheduler's tests, and a search of it that can be slowed and watched.

The node counts of `S4` were computed with the benchmark's own rules outside this project.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.balance import uts_trees
from bench.balance.uts_trees import Shape, Tree, nodes_of

if TYPE_CHECKING:
    from pyramidai_mpi.sched import Progress, Tasks

S4 = Tree(Shape.BINOMIAL, root_children=2000, probability=0.2, children=4, seed=42)
S4_NODES, S4_LEAVES, S4_DEPTH, S4_SUM = 10121, 8090, 23, 0x769466637D62B6D5
"""Nodes and sum over each state's first 8 bytes (big endian, modulo 2**64), root included."""


def s4_roots() -> Tasks:
    """The 2000 nodes of depth 1."""
    return nodes_of(S4.children_of(S4.root(), 0), 1)


class TreeSearch(uts_trees.TreeSearch):
    """Search of S4."""

    def __init__(self, batch_size: int = 16, by_depth: bool = False, seconds: float = 0.0) -> None:
        super().__init__(S4, batch_size, "depth" if by_depth else None)
        self.seconds = seconds
        self.largest_batch = 0
        self.threads: set[str] = set()
        self.reports: list[Progress] = []

    @property
    def nodes(self) -> int:
        return self.found.nodes

    def expand(self, nodes: Tasks) -> Tasks:
        self.largest_batch = max(self.largest_batch, len(nodes))
        if self.batch_by:
            assert len(set(nodes["depth"].tolist())) == 1, "a batch holds one value of the batch field"
        children = super().expand(nodes)
        nodes["depth"] = 0  # a copy of its own, free to be scribbled on
        if self.seconds:
            time.sleep(self.seconds * len(nodes))
        return children

    def on_progress(self, progress: Progress) -> None:
        self.reports.append(progress)
