"""Networks of timm by name, with weights from a file, from its hub, or random."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.package import FloatInput
from pyramidai_mpi.training.convert.checked_package import ConvertedNetwork
from pyramidai_mpi.training.convert.state_file import fill, read_state
from pyramidai_mpi.training.convert.tile_classifier import (
    TileClassifier,
    TileEncoder,
    expected_features,
    expected_probabilities,
    probabilities_of,
)
from pyramidai_mpi.training.convert.timm_gate import timm
from pyramidai_mpi.training.networks.export import OUTPUTS, to_onnx

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from torch import nn


@dataclass(frozen=True)
class TimmNetwork:
    """A network, ready to use.

    Attributes
    ----------
    name
        timm's.
    network
        From normalised float32 (B, 3, T, T) to logits, in evaluation mode.
    float_input, tile_size
        What timm says that it takes.
    has_head
        Whether its last layer came with the weights. Without, its answers mean nothing.
    """

    name: str
    network: nn.Module
    float_input: FloatInput
    tile_size: int
    has_head: bool


class _WithFeatures(TileClassifier):
    """Probabilities, and what the last layer sees, float32 (B, F)."""

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # type: ignore[override]
        network: Any = self.network
        maps = network.forward_features(self.normalised(tiles))
        return probabilities_of(network.forward_head(maps)), network.forward_head(maps, pre_logits=True)


def network_from_file(name: str, n_classes: int, path: Path, seed: int = 0) -> TimmNetwork:
    """A network with the weights of a state dict; one logit will do for two classes.

    Parameters
    ----------
    seed
        Seed of the weights drawn for the head when the file has none.

    Raises
    ------
    UsageError
        When timm has no such network.
    InputError
        When the file is no state dict of this network, or its head has another number of classes.
    """
    state = read_state(path)
    found = _create(name, n_classes, seed)
    heads = _heads(found)
    rows = {int(value.shape[0]) for key, value in state.items() if key in {f"{head}weight" for head in heads}}
    if rows == {1} and n_classes == 2:
        found = _create(name, 1, seed)
    elif rows - {n_classes}:
        raise InputError(f"{path}: its head has {rows.pop()} classes, but --classes names {n_classes}")
    fill(path, found, state, heads, f"timm's {name}")
    return _described(name, found, has_head=bool(rows) or not heads)


def pretrained_network(name: str, n_classes: int, seed: int = 0) -> TimmNetwork:
    """A network with the weights that timm fetches; a head for other classes is left out and drawn at random.

    Raises
    ------
    UsageError
        When timm has no such network.
    InputError
        When it has no weights for it, or cannot fetch them.
    """
    found = _create(name, n_classes, seed, pretrained=True)
    return _described(name, found, has_head=found.pretrained_cfg.get("num_classes") == n_classes)


def random_network(name: str, n_classes: int, seed: int) -> TimmNetwork:
    """A network whose weights mean nothing."""
    return _described(name, _create(name, n_classes, seed), has_head=False)


def convert(source: TimmNetwork, side: int, n_classes: int) -> ConvertedNetwork:
    """The network in ONNX, with features where timm gives a vector of them.

    Raises
    ------
    InputError
        When it does not take tiles of this side, or torch cannot convert it.
    """
    shape = _answer_of(source, side)
    if shape not in {(2, n_classes), (2, 1)}:
        raise InputError(f"timm's {source.name} gives {shape} for two tiles; it is no classifier of tiles")
    classifier = TileClassifier(source.network, source.float_input)
    outputs: tuple[str, ...] = OUTPUTS[:1]
    if _gives_features(source.network, side):
        classifier, outputs = _WithFeatures(source.network, source.float_input), OUTPUTS
    graph = _graph(classifier, source.name, side, outputs)
    return ConvertedNetwork(graph, expected_probabilities(source.network, source.float_input, side))


def encoder(name: str, settings: Mapping[str, Any], weights: Path | None, seed: int | None) -> TimmNetwork:
    """A network without its last layer, whose output are features.

    Parameters
    ----------
    settings
        Further arguments of timm's ``create_model``.
    weights
        State dict of the network; its last layer, if there is one, is left out. None for those that timm fetches.
    seed
        Of weights drawn at random instead; None where they are not.

    Raises
    ------
    UsageError
        When timm has no such network.
    InputError
        When it cannot be made so, or the weights cannot be used.
    """
    found = _create(name, 0, seed or 0, pretrained=weights is None and seed is None, **settings)
    if weights is not None:
        heads = _heads(found)
        state = {key: value for key, value in read_state(weights).items() if not key.startswith(heads)}
        fill(weights, found, state, (), f"timm's {name}")
    return _described(name, found, has_head=seed is None)


def convert_encoder(source: TimmNetwork, side: int) -> ConvertedNetwork:
    """The network in ONNX, with features as its only output.

    Raises
    ------
    InputError
        When it does not take tiles of this side, gives no vector, or torch cannot convert it.
    """
    shape = _answer_of(source, side)
    if len(shape) != 2 or shape[0] != 2:
        raise InputError(f"timm's {source.name} gives {shape} for two tiles; expected a vector of features of each")
    graph = _graph(TileEncoder(source.network, source.float_input), source.name, side, OUTPUTS[1:])
    return ConvertedNetwork(graph, expected_features(source.network, source.float_input, side))


def _create(name: str, n_classes: int, seed: int, *, pretrained: bool = False, **settings: Any) -> Any:
    if not name.startswith("hf-hub:") and not timm.is_model(name):
        raise UsageError(f"timm {timm.__version__} has no network {name!r}; timm.list_models() lists them")
    torch.manual_seed(seed)
    try:
        with _silence():
            return timm.create_model(name, pretrained=pretrained, num_classes=n_classes, **settings).eval()
    except Exception as error:  # timm and the libraries that fetch for it share no base
        what = "its weights cannot be fetched" if pretrained else "it cannot be made"
        raise InputError(
            f"timm's {name}: {what}: {_reason(error)}; give a local state dict with --weights FILE"
        ) from error


def _answer_of(source: TimmNetwork, side: int) -> tuple[int, ...]:
    """Shape of what it gives for two tiles."""
    try:
        with torch.inference_mode():
            return tuple(source.network(torch.zeros((2, 3, side, side))).shape)
    except Exception as error:  # networks raise whatever does not fit
        raise InputError(
            f"timm's {source.name} does not take tiles of {side} x {side} pixels (it was made for {source.tile_size}): "
            f"{_reason(error)}"
        ) from error


def _graph(network: nn.Module, name: str, side: int, outputs: tuple[str, ...]) -> bytes:
    try:
        return to_onnx(network, side, outputs)
    except Exception as error:  # the exporter raises whatever it meets
        raise InputError(f"timm's {name}: torch cannot convert it to ONNX: {_reason(error)}") from error


def _described(name: str, network: Any, *, has_head: bool) -> TimmNetwork:
    config = timm.data.resolve_model_data_config(network)
    channels, height, width = config["input_size"]
    if channels != 3:
        raise InputError(f"timm's {name} takes {channels} channels, expected red, green and blue")
    recipe = FloatInput(tuple(config["mean"]), tuple(config["std"]))
    return TimmNetwork(name, network, recipe, min(height, width), has_head)


def _heads(network: Any) -> tuple[str, ...]:
    """What the names of the last layers' weights begin with."""
    names = network.pretrained_cfg.get("classifier") or ()
    return tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))


def _gives_features(network: Any, side: int) -> bool:
    try:
        with torch.inference_mode():
            maps = network.forward_features(torch.zeros((2, 3, side, side)))
            return bool(network.forward_head(maps, pre_logits=True).ndim == 2)
    except (AttributeError, TypeError):  # no such methods, or no such argument
        return False


@contextmanager
def _silence() -> Iterator[None]:
    """Keep libraries from telling of each attempt to fetch; the error at the end says it."""
    loggers = [logging.getLogger(name) for name in ("timm", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
