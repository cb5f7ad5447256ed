"""Trees of the Unbalanced Tree Search benchmark (Olivier et al., LCPC 2006), and two ways through them.

The shape of a tree is random but fixed by its parameters, so every search must find the same nodes. A node is named by
a SHA-1: the root's of 16 zero bytes and the seed, a child's of its parent's name and its own number. The last four
bytes of the name are the node's random number, which decides how many children it has.
"""

from __future__ import annotations

import hashlib
import math
import struct
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import argparse

    import numpy.typing as npt

    from pyramidai_mpi.sched import Tasks

NODE = np.dtype([("depth", "<u2"), ("state", "V20")])
"""depth: of the root 0; state: SHA-1 that names the node."""

_NUMBERS = np.dtype([("depth", "<u2"), ("name", ">u8"), ("middle", "V8"), ("draw", ">u4")])
"""The same bytes with the first 8 and the last 4 of the name as numbers."""

_CHILD_NUMBERS = [struct.pack(">I", number) for number in range(10_000)]
_LARGEST_DRAW = 0x7FFFFFFF
_MOST_GEOMETRIC_CHILDREN = 100


class Shape(Enum):
    """How the mean number of children falls with the depth; binomial trees have none of this."""

    BINOMIAL = "-t 0"
    GEOMETRIC_LINEAR = "-t 1 -a 0"
    GEOMETRIC_FIXED = "-t 1 -a 3"


_BINOMIAL = Shape.BINOMIAL  # looked up once a node; members of an enumeration are slow to find


@dataclass(frozen=True)
class Tree:
    """One tree, by the parameters of the benchmark's own program.

    Attributes
    ----------
    shape : Shape
        Options ``-t`` and ``-a``.
    root_children : float
        Option ``-b``: children of the root (binomial), or mean number of children (geometric).
    seed : int
        Option ``-r``.
    probability, children : float, int
        Options ``-q`` and ``-m``: a binomial node has `children` children with this probability, else none.
    depth : int
        Option ``-d``: where geometric trees end.
    """

    shape: Shape
    root_children: float
    seed: int
    probability: float = 0.0
    children: int = 0
    depth: int = 0

    def root(self) -> bytes:
        """Name of the root."""
        return hashlib.sha1(bytes(16) + struct.pack(">i", self.seed)).digest()

    def roots(self) -> Tasks:
        """The root as the only task (1,)."""
        return nodes_of([self.root()], 0)

    def mean_children(self, depth: int) -> float:
        """Mean number of children of a geometric node at `depth`."""
        if self.shape is Shape.GEOMETRIC_LINEAR:
            return self.root_children * (1.0 - depth / self.depth)
        return self.root_children if depth < self.depth else 0.0

    @cached_property
    def divisors(self) -> list[float]:
        """Geometric: at each depth, what turns log(1 - u) into a number of children; minus infinity for none."""
        means = [self.root_children] + [self.mean_children(depth) for depth in range(1, self.depth + 1)]
        return [math.log(1 - 1 / (1 + mean)) if mean > 0 else -math.inf for mean in means]

    def number_of_children(self, state: bytes, depth: int) -> int:
        """Of one node."""
        u = (int.from_bytes(state[16:], "big") & _LARGEST_DRAW) / 2**31
        if self.shape is not _BINOMIAL:
            return min(int(math.log(1 - u) / self.divisors[depth]), _MOST_GEOMETRIC_CHILDREN)
        if depth == 0:
            return int(self.root_children)
        return self.children if u < self.probability else 0

    def children_of(self, state: bytes, depth: int) -> list[bytes]:
        """Names of one node's children."""
        number = self.number_of_children(state, depth)
        if not number:
            return []
        sha1 = hashlib.sha1
        return [sha1(state + child).digest() for child in _CHILD_NUMBERS[:number]]

    def numbers_of_children(self, nodes: Tasks) -> npt.NDArray[np.intp]:
        """Of each of `nodes` (n,); the root comes alone."""
        draws = nodes.view(_NUMBERS)["draw"] & _LARGEST_DRAW
        if self.shape is not _BINOMIAL:
            numbers = np.log(1 - draws / 2**31) / np.array(self.divisors)[nodes["depth"]]
            return np.minimum(numbers, _MOST_GEOMETRIC_CHILDREN).astype(np.intp)
        if nodes["depth"][0] == 0:
            return np.array([int(self.root_children)])
        return (draws < self.probability * 2**31) * np.intp(self.children)


def nodes_of(states: list[bytes], depth: int) -> Tasks:
    """Nodes (n,) of one depth."""
    made = np.empty(len(states), NODE)
    made["depth"] = depth
    made["state"] = np.frombuffer(b"".join(states), "V20")
    return made


def children_of_nodes(tree: Tree, nodes: Tasks) -> tuple[Tasks, int]:
    """All children (m,) of `nodes` (n,), and how many of the nodes have none."""
    numbers = tree.numbers_of_children(nodes)
    fruitful = numbers.nonzero()[0]
    numbers = numbers[fruitful]
    parents = nodes[fruitful]
    sha1 = hashlib.sha1
    digests = [
        sha1(state + child).digest()
        for state, number in zip(parents["state"].tolist(), numbers.tolist(), strict=True)
        for child in _CHILD_NUMBERS[:number]
    ]
    children = np.empty(len(digests), NODE)
    children["depth"] = (parents["depth"] + 1).repeat(numbers)
    children["state"] = np.frombuffer(b"".join(digests), "V20")
    return children, len(nodes) - len(fruitful)


@dataclass(frozen=True)
class Found:
    """What a search has counted; `checksum` is the sum of the names' first 8 bytes, big endian, modulo 2**64."""

    nodes: int = 0
    leaves: int = 0
    depth: int = 0
    checksum: int = 0

    def __add__(self, other: Found) -> Found:
        return Found(
            self.nodes + other.nodes,
            self.leaves + other.leaves,
            max(self.depth, other.depth),
            (self.checksum + other.checksum) % 2**64,
        )


class TreeSearch:
    """Counts the nodes of a tree, as a workload.

    Attributes
    ----------
    found : Found
        On this rank so far.
    """

    dtype: np.dtype[Any] = NODE

    def __init__(self, tree: Tree, batch_size: int, batch_by: str | None = None) -> None:
        self.tree, self.batch_size, self.batch_by = tree, batch_size, batch_by
        self.found = Found()

    def expand(self, nodes: Tasks) -> Tasks:
        """Count `nodes` and return their children."""
        children, leaves = children_of_nodes(self.tree, nodes)
        checksum = int(nodes.view(_NUMBERS)["name"].sum(dtype=np.uint64))
        self.found += Found(len(nodes), leaves, int(nodes["depth"].max()), checksum)
        return children


def search_plainly(tree: Tree) -> Found:
    """Search `tree` node by node in one loop: no scheduler, no arrays."""
    nodes = leaves = deepest = checksum = 0
    stack = [(tree.root(), 0)]
    while stack:
        state, depth = stack.pop()
        nodes += 1
        checksum += int.from_bytes(state[:8], "big")
        deepest = max(deepest, depth)
        children = tree.children_of(state, depth)
        if children:
            depth += 1
            stack += [(child, depth) for child in children]
        else:
            leaves += 1
    return Found(nodes, leaves, deepest, checksum % 2**64)


def add_tree_options(parser: argparse.ArgumentParser) -> None:
    """The options of the benchmark's own program."""
    parser.add_argument("-t", type=int, choices=[0, 1], default=1, help="tree: 0 binomial, 1 geometric")
    parser.add_argument("-a", type=int, choices=[0, 3], default=0, help="geometric shape: 0 linear, 3 fixed")
    parser.add_argument("-b", type=float, default=4.0, help="children of the root, or mean number of children")
    parser.add_argument("-q", type=float, default=15 / 64, help="binomial: probability of having children")
    parser.add_argument("-m", type=int, default=4, help="binomial: number of children of a node that has any")
    parser.add_argument("-d", type=int, default=6, help="geometric: depth")
    parser.add_argument("-r", type=int, default=0, help="seed")


def tree_from(options: argparse.Namespace) -> Tree:
    """The tree that the command line asks for."""
    if options.t == 0:
        return Tree(Shape.BINOMIAL, options.b, options.r, probability=options.q, children=options.m)
    linear = Tree(Shape.GEOMETRIC_LINEAR, options.b, options.r, depth=options.d)
    return linear if options.a == 0 else replace(linear, shape=Shape.GEOMETRIC_FIXED)
