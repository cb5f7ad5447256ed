"""Networks that can be trained: one table. Loads torch when one is made."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.training.networks.tile_network import TileNetwork


@dataclass(frozen=True)
class Architecture:
    """One row of the table.

    Attributes
    ----------
    name
        As ``train --arch`` has it.
    module
        In `training.networks`, with a function ``new_network(seed)``.
    help
        For the list of ``train --arch``.
    starts_from_weights
        Whether ``new_network(seed, path)`` starts from weights in a file.
    least_side
        Side in pixels of the smallest tile of which its convolutions leave something.
    """

    name: str
    module: str
    help: str
    starts_from_weights: bool = False
    least_side: int = 16


ARCHITECTURES = (
    Architecture("small", "compact", "no weights from elsewhere"),
    Architecture("small-valid", "compact_valid", "its like without padding, for sliding windows", least_side=96),
    Architecture("inception-valid", "inception_valid", "inception blocks without padding", least_side=112),
    Architecture("inception_v3", "inception", "the paper's", starts_from_weights=True, least_side=75),
)


def check_weights(architecture: str, weights: Path | None) -> None:
    """See that a network can start from weights, if any are given.

    Raises
    ------
    UsageError
        When it starts from random ones only.
    """
    takers = [one.name for one in ARCHITECTURES if one.starts_from_weights]
    if weights is not None and architecture not in takers:
        raise UsageError(f"--weights are for {' and '.join(takers)}; {architecture} starts from random ones")


def check_side(architecture: str, side: int) -> None:
    """See that a network can look at tiles of a size.

    Raises
    ------
    UsageError
        When they are too small.
    """
    (row,) = (one for one in ARCHITECTURES if one.name == architecture)
    if side < row.least_side:
        raise UsageError(f"--arch {architecture}: looks at {row.least_side} pixels a side or more, not at {side}")


def new_network(architecture: str, seed: int, weights: Path | None = None) -> TileNetwork:
    """A network to train, random where the weights do not say.

    Raises
    ------
    InputError
        When the weights cannot be used.
    """
    (row,) = (one for one in ARCHITECTURES if one.name == architecture)
    module = importlib.import_module(f"pyramidai_mpi.training.networks.{row.module}")
    network: TileNetwork = module.new_network(seed) if weights is None else module.new_network(seed, weights)
    return network
