"""From a trained encoder and aggregator to the graphs of a package."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import nn

from pyramidai_mpi.models.aggregator_entry import AGGREGATOR_OUTPUTS
from pyramidai_mpi.training.networks.export import serialised, to_onnx

if TYPE_CHECKING:
    from pyramidai_mpi.training.slides.aggregators import Aggregator
    from pyramidai_mpi.training.slides.heads import TaskHead

_MOST_TILES = 1 << 24


class _TileAsSlide(nn.Module):
    """Tiles to the probabilities of slides that consist of one tile each, and their features."""

    def __init__(self, encoder: nn.Module, aggregator: Aggregator, head: TaskHead) -> None:
        super().__init__()
        self.encoder, self.aggregator, self._head = encoder, aggregator, head

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.encoder(tiles)
        return self._head.probabilities(self.aggregator(features[:, None])), features


class _SlideOfFeatures(nn.Module):
    """Features (N, F) of one slide to what the package's description says."""

    def __init__(self, aggregator: Aggregator, head: TaskHead) -> None:
        super().__init__()
        self.aggregator, self._head = aggregator, head

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        contribution, attention = (rows[0] for rows in self.aggregator.parts(features[None]))
        constant = self.aggregator.constant + 0.0  # a result of its own: stored numbers are no outputs
        return self._head.prediction(contribution.sum(0) + constant), attention, contribution, constant


def tile_graph(encoder: nn.Module, aggregator: Aggregator, head: TaskHead, side: int) -> bytes:
    """ONNX graph of level 0: tiles of `side` pixels to ``probabilities`` of a slide of one tile, and ``features``."""
    return to_onnx(_TileAsSlide(encoder, aggregator, head).eval(), side)


def slide_graph(aggregator: Aggregator, head: TaskHead, n_features: int) -> bytes:
    """ONNX graph of the aggregator: ``features`` (N, F) to `AGGREGATOR_OUTPUTS`."""
    network = _SlideOfFeatures(copy.deepcopy(aggregator), head).eval()
    tiles = torch.export.Dim("tiles", min=1, max=_MOST_TILES)
    return serialised(network, {"features": torch.zeros((3, n_features))}, {"features": {0: tiles}}, AGGREGATOR_OUTPUTS)
