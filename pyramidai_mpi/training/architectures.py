"""Networks that can be trained: one table. Loads torch when one is made."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.extras import require_extra

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
        In `training.networks`, with a function ``new_network(seed, weights)``, to which `timm` is a third argument.
    help
        For the list of ``train --arch``.
    least_side
        Side in pixels of the smallest tile of which its convolutions leave something.
    timm
        Its name in timm, for networks that are timm's; they need that extra. Empty for our own.
    """

    name: str
    module: str
    help: str
    least_side: int = 16
    timm: str = ""


def _of_timm(name: str, help_: str, least_side: int) -> Architecture:
    return Architecture(name, "timm_tiles", help_, least_side, name)


ARCHITECTURES = (
    Architecture("small", "compact", "plain convolutions, quick"),
    Architecture("small-valid", "compact_valid", "its like without padding, for sliding windows", least_side=96),
    Architecture("inception-valid", "inception_valid", "inception blocks without padding", least_side=112),
    Architecture("inception_v3", "inception", "the paper's", least_side=75),
    Architecture("googlenet", "googlenet", "with batch norm", least_side=32),
    _of_timm("resnet18", "timm's", 32),
    _of_timm("resnet50", "timm's", 32),
    _of_timm("resnet101", "timm's", 32),
    _of_timm("densenet121", "timm's", 32),
    _of_timm("inception_resnet_v2", "timm's", 75),
)


def row_of(architecture: str) -> Architecture:
    """The row of a network by its name."""
    (row,) = (one for one in ARCHITECTURES if one.name == architecture)
    return row


def check_weights(architecture: str, weights: Path | None) -> None:
    """See that there is what a network is made of: the library that it is from, and the weights to start from.

    Raises
    ------
    UsageError
        When the library is missing.
    InputError
        When there is no such file.
    """
    if row_of(architecture).timm:
        require_extra("timm", f"--arch {architecture}")
    if weights is not None and not weights.is_file():
        raise InputError(f"{weights}: no such file of weights; --weights takes a state dict or a .safetensors file")


def check_side(architecture: str, side: int) -> None:
    """See that a network can look at tiles of a size.

    Raises
    ------
    UsageError
        When they are too small.
    """
    least = row_of(architecture).least_side
    if side < least:
        raise UsageError(f"--arch {architecture}: looks at {least} pixels a side or more, not at {side}")


def new_network(architecture: str, seed: int, weights: Path | None = None) -> TileNetwork:
    """A network to train, random where the weights do not say. Nothing is fetched.

    Parameters
    ----------
    architecture
        A name of `ARCHITECTURES`.
    seed
        Of random weights.
    weights
        A state dict saved by torch, or a ``.safetensors`` file: of this network, or timm's or torchvision's of that
        name. A head for other classes is left out, which is logged.

    Raises
    ------
    UsageError, InputError
        As `check_weights`; and when the weights cannot be used.
    """
    check_weights(architecture, weights)
    row = row_of(architecture)
    module = importlib.import_module(f"pyramidai_mpi.training.networks.{row.module}")
    network: TileNetwork = module.new_network(seed, weights, *([row.timm] if row.timm else []))
    return network
