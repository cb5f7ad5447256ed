"""Reading files of weights without running what may be in them."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING

import torch

from pyramidai_mpi.base.errors import InputError, UsageError, failed_read

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from torch import nn

log = logging.getLogger(__name__)

SAFETENSORS = ".safetensors"
_WRAPPED = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Names and tensors of a state dict saved by torch, or of a ``.safetensors`` file.

    Of a checkpoint that trainers leave it is the part that they call ``state_dict``, ``model`` or
    ``model_state_dict``; ``module.`` in front of all names, which data-parallel training puts there, is left out.

    Raises
    ------
    InputError
        When the file is no state dict, or holds more than tensors.
    UsageError
        When it is a ``.safetensors`` file and the library for them is not installed.
    """
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path)
    try:
        # timm keeps its options in checkpoints, as a Namespace, which runs nothing
        with torch.serialization.safe_globals([argparse.Namespace]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the unpickler meets
        raise failed_read(path, error) or InputError(
            f"{path}: not a file of weights that torch reads safely: {_reason(error)}"
        ) from error
    state = _unwrapped(state)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: no state dict (names and tensors); save it with torch.save(model.state_dict(), ...)")
    return state


def _unwrapped(state: object) -> object:
    if isinstance(state, dict):
        wrapped = next((state[name] for name in _WRAPPED if isinstance(state.get(name), dict)), None)
        state = state if wrapped is None else wrapped
        if state and all(str(name).startswith(_PARALLEL) for name in state):
            return {str(name).removeprefix(_PARALLEL): value for name, value in state.items()}
    return state


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors.torch import load
    except ImportError as error:
        raise UsageError(f"{path}: needs safetensors: pip install 'pyramidai-mpi[timm]'") from error
    try:
        # not mapped: a file that is changed under the training would end the process
        state: dict[str, torch.Tensor] = load(path.read_bytes())
    except Exception as error:  # its errors have no public base
        raise failed_read(path, error) or InputError(
            f"{path}: not a sound {SAFETENSORS} file: {_reason(error)}"
        ) from error
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


def start_from(
    path: Path,
    network: nn.Module,
    heads: tuple[str, ...],
    architecture: str,
    *,
    ignored: tuple[str, ...] = (),
    renamed: Callable[[str], str] = str,
) -> bool:
    """Give a network to be trained the weights of a file; a head for other classes is left out, which is said.

    Parameters
    ----------
    path
        The file, see `read_state`.
    heads
        What the names of the head's weights begin with.
    architecture
        The network's name, for messages.
    ignored
        What the names of weights begin with that the network has no use for.
    renamed
        From a name in the file to the network's.

    Returns
    -------
    bool
        Whether the head came from the file.

    Raises
    ------
    InputError
        As `read_state` and `fill`.
    """
    own = network.state_dict()
    state = {renamed(name): value for name, value in read_state(path).items() if not name.startswith(ignored)}
    found = {name for name in state if name.startswith(heads)}
    fits = bool(found) and all(name in own and own[name].shape == state[name].shape for name in found)
    if found and not fits:
        shapes = ", ".join(f"{name} {tuple(state[name].shape)}" for name in sorted(found))
        log.warning("%s: its head is for other classes and is left out (%s); ours starts at random", path, shapes)
        state = {name: value for name, value in state.items() if name not in found}
    elif not found:
        log.warning("%s: holds no head for %s; ours starts at random", path, architecture)
    fill(path, network, state, heads, architecture)
    return fits


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
