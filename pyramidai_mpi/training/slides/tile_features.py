"""Features of chunks of tiles: the same numbers whoever computes them, and each time they are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from pyramidai_mpi.training.augment import NO_CHANGE, augmented
from pyramidai_mpi.training.exact.random_choices import generator_of

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import nn

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.training.augment import AugmentSettings
    from pyramidai_mpi.training.slides.bags import Chunk


class TilePixels(Protocol):
    """Where tiles come from."""

    def __call__(self, slide: int, tiles: npt.NDArray[np.int64]) -> tuple[RgbArray, npt.NDArray[np.bool_]]:
        """Pixels uint8 (m, T, T, 3) of those of a slide's tiles that can be read, and bool (n,), which these are."""
        ...


class TileRows(Protocol):
    """Where features come from that were computed before."""

    def __call__(self, slide: int, tiles: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Features float32 (n, F) of a slide's tiles."""
        ...


class FeatureSource(Protocol):
    """What an aggregator learns from.

    Attributes
    ----------
    encoder
        The network that computes it; None where it was computed before.
    n_features
        F.
    dtype
        Of the features.
    """

    encoder: nn.Module | None
    n_features: int
    dtype: torch.dtype

    def __call__(self, chunk: Chunk, epoch: int | None) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """Features (m, F) of those tiles that can be read, with their graph, and bool (n,), which these are.

        Parameters
        ----------
        chunk
            The tiles.
        epoch
            What dropout and changes of tiles follow from, with the numbers of slide and tile; None for neither.
        """
        ...


class _Dropout:
    """Leaves numbers of a tile's features out, by the tile's number: the same ones in whatever company it is."""

    def __init__(self, share: float, seed: int) -> None:
        self._share, self._seed = share, seed

    def __call__(self, features: torch.Tensor, slide: int, tiles: npt.NDArray[np.int64], epoch: int) -> torch.Tensor:
        if not self._share:
            return features
        drawn = [
            generator_of(self._seed, "dropout", epoch, slide, tile).random(features.shape[1]) for tile in tiles.tolist()
        ]
        kept = np.array(drawn).reshape(-1, features.shape[1]) >= self._share
        return features * torch.from_numpy(kept / (1 - self._share)).to(features.dtype)


class EncodedTiles:
    """Features that an encoder gives of pixels.

    Parameters
    ----------
    encoder, n_features
        Tiles uint8 (B, T, T, 3) to features (B, F), and F.
    pixels
        Where tiles come from.
    seed
        Of dropout and changes.
    dropout
        Share of a tile's features that are left out while learning, and the others made larger for it.
    changes
        How tiles are changed while learning.
    """

    def __init__(
        self,
        encoder: nn.Module,
        n_features: int,
        pixels: TilePixels,
        seed: int,
        dropout: float = 0.0,
        changes: AugmentSettings = NO_CHANGE,
    ) -> None:
        self.encoder: nn.Module | None = encoder
        self.n_features = n_features
        self.dtype = next((parameter.dtype for parameter in encoder.parameters()), torch.float32)
        self._network, self._pixels, self._seed, self._changes = encoder, pixels, seed, changes
        self._dropout = _Dropout(dropout, seed)

    def __call__(self, chunk: Chunk, epoch: int | None) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """See `FeatureSource`."""
        pixels, readable = self._pixels(chunk.slide, chunk.tiles)
        numbers = chunk.tiles[readable]
        if not len(numbers):
            return torch.zeros((0, self.n_features), dtype=self.dtype), readable
        if epoch is not None and self._changes != NO_CHANGE:
            pixels = np.concatenate(
                [
                    augmented(
                        pixels[place : place + 1],
                        generator_of(self._seed, "changes", epoch, chunk.slide, number),
                        self._changes,
                    )
                    for place, number in enumerate(numbers.tolist())
                ]
            )
        features = self._network(torch.from_numpy(np.ascontiguousarray(pixels)))
        return (features if epoch is None else self._dropout(features, chunk.slide, numbers, epoch)), readable


class StoredFeatures:
    """Features that were computed before.

    Parameters
    ----------
    rows, n_features
        Where they come from, and F.
    seed, dropout
        See `EncodedTiles`.
    """

    def __init__(self, rows: TileRows, n_features: int, seed: int, dropout: float = 0.0) -> None:
        self.encoder: nn.Module | None = None
        self.n_features, self.dtype = n_features, torch.float32
        self._rows, self._dropout = rows, _Dropout(dropout, seed)

    def __call__(self, chunk: Chunk, epoch: int | None) -> tuple[torch.Tensor, npt.NDArray[np.bool_]]:
        """See `FeatureSource`."""
        features = torch.from_numpy(np.ascontiguousarray(self._rows(chunk.slide, chunk.tiles)))
        if epoch is not None:
            features = self._dropout(features, chunk.slide, chunk.tiles, epoch)
        return features, np.ones(len(chunk.tiles), bool)
