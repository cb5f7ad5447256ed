"""Slides that are arrays: tiles without files, for tests of what is learnt from them.

As a program: ``bags_in_memory.py FOLDER METHOD [slow] [kill=RANK:STEP] [seed=N]`` trains on all ranks and prints the
digest of what came of it.
"""

from __future__ import annotations

import copy

import numpy as np
import torch

from pyramidai_mpi.models.aggregator_entry import AggregatorMethod
from pyramidai_mpi.training.augment import NO_CHANGE
from pyramidai_mpi.training.networks.group_norm import SmallEncoder, new_encoder
from pyramidai_mpi.training.slides.aggregators import Aggregator, new_aggregator
from pyramidai_mpi.training.slides.bags import Case, Draw
from pyramidai_mpi.training.slides.heads import BinaryHead, TaskHead
from pyramidai_mpi.training.slides.tile_features import EncodedTiles

SIDE = 32
HEAD = BinaryHead(("normal", "tumor"))


class PixelArrays:
    """Tiles of slides of so many tiles each; `hole`, (slide, tile), cannot be read."""

    def __init__(self, n_tiles: list[int], hole: tuple[int, int] | None = None, seed: int = 3) -> None:
        rng = np.random.default_rng(seed)
        self.tiles = [rng.integers(0, 256, (n, SIDE, SIDE, 3), dtype=np.uint8) for n in n_tiles]
        self.hole = hole

    def __call__(self, slide: int, tiles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `TilePixels`."""
        readable = np.array([(slide, tile) != self.hole for tile in tiles.tolist()])
        return self.tiles[slide][tiles[readable]], readable


def networks(method: str, head: TaskHead = HEAD, dtype: torch.dtype = torch.float32) -> tuple[SmallEncoder, Aggregator]:
    """An encoder and an aggregator, the same each time; those of double precision are those of single precision."""
    encoder = new_encoder("small-gn", 1)
    aggregator = new_aggregator(AggregatorMethod(method), encoder.n_features, head.n_logits, 2)
    return copy.deepcopy(encoder).to(dtype), copy.deepcopy(aggregator).to(dtype)


def source_of(encoder, pixels: PixelArrays, dropout: float = 0.2, changes=NO_CHANGE) -> EncodedTiles:
    """Features of these tiles."""
    return EncodedTiles(encoder, encoder.n_features, pixels, 5, dropout, changes)


def draw_of(pixels: PixelArrays, per_slide: int = 1000, chunk: int = 8) -> Draw:
    """A draw of tiles of these slides."""
    names = [f"slide {n}" for n in range(len(pixels.tiles))]
    return Draw(6, per_slide, chunk, names, [len(tiles) for tiles in pixels.tiles])


def case_of(*slides: int, target: tuple[float, ...] = (1.0,)) -> Case:
    """A case of some slides."""
    return Case(f"case {slides}", slides, target)
