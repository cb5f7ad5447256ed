"""How a slide's tiles become its prediction: a sum of what each tile contributes, and a constant.

Each gives, of features (B, N, F) of B slides of N tiles: contributions (B, N, C'), whose sum plus `constant` (C',) are
the slide's logits exactly, and attention (B, N, H), which sums to 1 over the tiles. All take time and memory in
proportion to N.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch import nn

from pyramidai_mpi.models.aggregator_entry import AggregatorMethod


class Aggregator(nn.Module, ABC):
    """One that ends in a linear layer over features of any kind."""

    def __init__(self, width: int, n_logits: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, n_logits)

    @abstractmethod
    def parts(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Contributions (B, N, C') and attention (B, N, H)."""

    @property
    def constant(self) -> torch.Tensor:
        """What is added to the contributions, (C',)."""
        return self.head.bias

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logits (B, C') of features (B, N, F)."""
        return self.parts(features)[0].sum(1) + self.constant


class MeanAggregator(Aggregator):
    """The mean of the features."""

    def parts(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each tile contributes, and is attended to, as much as any other."""
        n_tiles = features.shape[1]
        return features @ self.head.weight.T / n_tiles, torch.ones_like(features[:, :, :1]) / n_tiles


class AttentionAggregator(Aggregator):
    """Gated attention, one for each logit (Ilse, Tomczak and Welling, ICML 2018, equation 9)."""

    def __init__(self, width: int, n_logits: int, hidden: int = 64) -> None:
        super().__init__(width, n_logits)
        self.value, self.gate = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.score = nn.Linear(hidden, n_logits)

    def parts(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Each tile contributes in proportion to its attention."""
        scores = self.score(torch.tanh(self.value(features)) * torch.sigmoid(self.gate(features)))
        attention = torch.softmax(scores, 1)
        return attention * (features @ self.head.weight.T), attention


class TransformerAggregator(Aggregator):
    """Attention among tiles through a few learned points, so that it grows with N and not with its square.

    Blocks are the induced set attention of Lee et al., "Set Transformer" (ICML 2019), with norms before attention. The
    slide is the mean of what becomes of its tiles; a tile's contribution so holds what it has learnt of the others.
    """

    def __init__(
        self, width: int, n_logits: int, hidden: int = 64, points: int = 16, heads: int = 4, blocks: int = 1
    ) -> None:
        super().__init__(hidden, n_logits)
        self.enter = nn.Linear(width, hidden)
        self.blocks = nn.ModuleList(_InducedBlock(hidden, points, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(hidden)

    def parts(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention is that which the last block's points pay to the tiles, a column a head."""
        tiles = self.enter(features)
        attention = tiles
        for block in self.blocks:
            tiles, attention = block(tiles)
        return self.norm(tiles) @ self.head.weight.T / features.shape[1], attention


class _InducedBlock(nn.Module):
    def __init__(self, width: int, points: int, heads: int) -> None:
        super().__init__()
        self.points = nn.Parameter(torch.randn(1, points, width) / math.sqrt(width))
        self.tiles_norm, self.points_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.gather, self.spread = _Attention(width, heads), _Attention(width, heads)
        self.of_points, self.of_tiles = _Feedforward(width), _Feedforward(width)

    def forward(self, tiles: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        points = self.points.expand(tiles.shape[0], -1, -1)
        seen, attention = self.gather(points, self.tiles_norm(tiles))
        points = self.of_points(points + seen)
        told, _ = self.spread(tiles, self.points_norm(points))
        return self.of_tiles(tiles + told), attention.mean(2).transpose(1, 2)


class _Attention(nn.Module):
    """Queries (B, Q, W) attend to things (B, N, W): sums (B, Q, W), and weights (B, H, Q, N)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
        self.value, self.leave = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, queries: torch.Tensor, things: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        query, key = self._split(self.query(queries)), self._split(self.key(things))
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(query.shape[3]), 3)
        together = weights @ self._split(self.value(things))
        return self.leave(together.transpose(1, 2).flatten(2)), weights

    def _split(self, rows: torch.Tensor) -> torch.Tensor:
        return rows.reshape(*rows.shape[:2], self.heads, -1).transpose(1, 2)


class _Feedforward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows + self.outer(torch.relu(self.inner(self.norm(rows))))  # type: ignore[no-any-return]


def new_aggregator(method: AggregatorMethod, width: int, n_logits: int, seed: int) -> Aggregator:
    """An aggregator with random weights.

    Parameters
    ----------
    method
        How.
    width
        Numbers of a tile's features, F.
    n_logits
        Numbers of a slide, C'.
    seed
        Equal seeds, equal weights.
    """
    torch.manual_seed(seed)
    kinds: dict[AggregatorMethod, type[Aggregator]] = {
        AggregatorMethod.ABMIL: AttentionAggregator,
        AggregatorMethod.MEAN: MeanAggregator,
        AggregatorMethod.TRANSFORMER: TransformerAggregator,
    }
    return kinds[method](width, n_logits)
