"""Networks that can be trained on whole images: a table, and those of the user's own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import PyramidError, UsageError

if TYPE_CHECKING:
    from torch import nn

    from pyramidai_mpi.training.whole.field import Field


@dataclass(frozen=True)
class WholeArchitecture:
    """One row of the table: a name as ``train-whole --network`` has it, and what it is, for the list."""

    name: str
    help: str


UNET = WholeArchitecture("unet", "the paper's seven convolutions")
CONTRAST = WholeArchitecture("contrast", "how dark a place is against the brightest around it, for tissue")
WHOLE_ARCHITECTURES = (UNET, CONTRAST)


def new_whole_network(name: str, seed: int) -> tuple[nn.Module, Field]:
    """A network with random weights, and how it can be cut, which is found by trial and checked.

    Parameters
    ----------
    name
        Of the table; or ``MODULE:FUNCTION``, whose call without arguments gives the network.
    seed
        Of the weights.

    Raises
    ------
    UsageError
        There is no such network, or it cannot be trained in blocks; says why.
    """
    import torch
    from torch import nn

    from pyramidai_mpi.training.exact.random_choices import seed_torch
    from pyramidai_mpi.training.whole.contrast import ContrastNetwork
    from pyramidai_mpi.training.whole.field import field_of
    from pyramidai_mpi.training.whole.unet import WholeImageUNet

    seed_torch(seed, "weights")
    if name == UNET.name:
        network: object = WholeImageUNet()
    elif name == CONTRAST.name:
        network = ContrastNetwork()
    else:
        network = _from_module(name)
    if not isinstance(network, nn.Module):
        raise UsageError(f"--network {name}: gives {type(network).__name__}, expected a torch.nn.Module")
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise UsageError(f"--network {name}: has no weights to train")
    if any(parameter.dtype != torch.float32 for parameter in network.parameters()):
        raise UsageError(f"--network {name}: has weights that are no float32")
    return network, field_of(network, name)


def _from_module(name: str) -> object:
    module_name, _, function_name = name.partition(":")
    if not function_name:
        known = ", ".join(one.name for one in WHOLE_ARCHITECTURES)
        raise UsageError(f"--network {name}: no such network; give {known}, or MODULE:FUNCTION of your own Python")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
        return function()
    except PyramidError:
        raise
    except Exception as error:  # of a module that others wrote
        raise UsageError(
            f"--network {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}; is the module's folder "
            "in PYTHONPATH?"
        ) from error
