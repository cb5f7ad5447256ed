"""Reading files of weights without running what may be in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import nn


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors of a state dict saved by torch.

    Raises
    ------
    InputError
        When the file is no state dict, or holds more than tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the unpickler meets
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not a file of weights that torch reads safely: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: no state dict (names and tensors); save it with torch.save(model.state_dict(), ...)")
    return state


def fill(
    path: Path, network: nn.Module, state: Mapping[str, torch.Tensor], heads: tuple[str, ...], architecture: str
) -> None:
    """Give a network the weights of a state dict, all of them; its head may be missing as a whole.

    Parameters
    ----------
    path
        Where `state` is from, for messages.
    heads
        What the names of the head's weights begin with.
    architecture
        The network's name, for messages.

    Raises
    ------
    InputError
        When a layer is missing, has another shape, or is none of the network's.
    """
    own = network.state_dict()
    head = {name for name in own if name.startswith(heads)}
    missing = sorted(set(own) - set(state) - (set() if head & set(state) else head))
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    foreign = sorted(set(state) - set(own))
    misfits = sorted(name for name in set(own) & set(state) if own[name].shape != state[name].shape)
    for names, what in ((missing, "lacks"), (foreign, "has the unknown"), (misfits, "has another shape for")):
        if names:
            raise InputError(f"{path}: {what} {names[0]} ({len(names)} such), expected the layers of {architecture}")
    network.load_state_dict(dict(state), strict=False)
