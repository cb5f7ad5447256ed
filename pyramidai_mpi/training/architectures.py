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
    """

    name: str
    module: str
    help: str
    starts_from_weights: bool = False


ARCHITECTURES = (
    Architecture("small", "compact", "no weights from elsewhere"),
    Architecture("inception_v3", "inception", "the paper's", starts_from_weights=True),
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
