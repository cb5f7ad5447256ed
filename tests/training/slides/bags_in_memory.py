"""Slides that are arrays: tiles without files, for tests of what is learnt from them.

As a program: ``bags_in_memory.py FOLDER METHOD [slow] [kill=RANK:LOOK] [seed=N]`` trains on all ranks and prints the
digest of what came of it.
"""

from __future__ import annotations

import copy
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pyramidai_mpi.models.aggregator_entry import AggregatorMethod
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.augment import NO_CHANGE, AugmentSettings
from pyramidai_mpi.training.networks.group_norm import SmallEncoder, new_encoder
from pyramidai_mpi.training.slides.aggregators import Aggregator, new_aggregator
from pyramidai_mpi.training.slides.bags import Case, Draw
from pyramidai_mpi.training.slides.fit import SlideFit, SlideTrainer
from pyramidai_mpi.training.slides.heads import BinaryHead, TaskHead
from pyramidai_mpi.training.slides.tile_features import EncodedTiles
from pyramidai_mpi.training.splits import Split
from pyramidai_mpi.training.torch_setup import use_one_thread

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


N_TILES = [14, 9, 20, 3, 11, 16, 8, 12, 10, 7, 13, 5]


def train(
    pool,
    folder: Path,
    method: str = "abmil",
    *,
    save_every_s: float = 1e9,
    seed: int = 1,
    slow: float = 0.0,
    before_look=None,
    **fit,
):
    """Train on slides whose label is in two of their tiles, or go on."""
    use_one_thread()
    pixels = PixelArrays(N_TILES)
    for slide in range(0, len(N_TILES), 2):
        pixels.tiles[slide][:2] //= 3
    cases = [case_of(n, target=(float(n % 2 == 0),)) for n in range(len(N_TILES))]
    split = {Split.TRAIN: cases[:6], Split.VALIDATION: cases[6:9], Split.TEST: cases[9:]}
    encoder, aggregator = networks(method)
    source = source_of(encoder, pixels, 0.1, AugmentSettings(stain_factor=0.1))

    def late(slide, tiles, read=pixels):
        if before_look is not None:
            before_look()
        time.sleep(slow)
        return read(slide, tiles)

    source._pixels = late
    settings = SlideFit(**{"epochs": 2, "per_step": 2, "learning_rate": 3e-3, "encoder_rate": 1e-3, **fit})
    settings = replace(settings, seed=seed, save_every_s=save_every_s)
    draw = Draw(seed, 10, 4, [f"slide {n}" for n in range(len(N_TILES))], N_TILES)
    trainer = SlideTrainer(pool, source, aggregator, HEAD, draw, split, settings)
    return trainer.train(folder, {"--seed": seed})


if __name__ == "__main__":
    from mpi4py import MPI

    words = dict(word.partition("=")[::2] for word in sys.argv[3:])
    of_rank, _, of_look = words.get("kill", "-1:0").partition(":")
    world = MPI.COMM_WORLD
    counted = [0]

    def maybe_die() -> None:
        """Before it looks at a chunk of tiles, so half-way through a step."""
        counted[0] += 1
        if world.rank == int(of_rank) and counted[0] == int(of_look):
            os.kill(os.getpid(), signal.SIGKILL)

    done = train(
        UnitPool(world),
        Path(sys.argv[1]),
        sys.argv[2],
        save_every_s=0.0,
        before_look=maybe_die,
        seed=int(words.get("seed", 1)),
        slow=0.03 if "slow" in words and world.rank == world.size - 1 else 0.0,
    )
    if world.rank == 0:
        sys.stdout.write(done.digest.hex())
