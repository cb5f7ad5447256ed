"""Joint training of an encoder and an aggregator: its gradient, its bits over ranks, its memory, what reading costs.

    python -m bench.training.slides            all of it
    python -m bench.training.slides --quick    smaller

Random tiles serve for all but the share of reading, for which a slide is generated.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from bench.figures import Figure, print_table, report
from bench.on_ranks import output_of
from pyramidai_mpi.base.settings import SlideInput
from pyramidai_mpi.models.aggregator_entry import AggregatorMethod
from pyramidai_mpi.process.memory import peak_resident_bytes
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import mpirun
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.networks.group_norm import new_encoder
from pyramidai_mpi.training.slides.aggregators import new_aggregator
from pyramidai_mpi.training.slides.bags import Case, Draw
from pyramidai_mpi.training.slides.fit import SlideFit, SlideTrainer
from pyramidai_mpi.training.slides.heads import BinaryHead
from pyramidai_mpi.training.slides.joint import JointGradients
from pyramidai_mpi.training.slides.tile_features import EncodedTiles
from pyramidai_mpi.training.slides.tissue_tiles import TissueTiles, find_tissue
from pyramidai_mpi.training.splits import Split
from pyramidai_mpi.training.torch_setup import use_one_thread

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

HEAD = BinaryHead(("normal", "tumor"))
_DROPOUT = 0.2


class MadeTiles:
    """Random tiles, made by number whenever they are asked for, so that they take no memory."""

    def __init__(self, side: int, wait_s: float = 0.0) -> None:
        self.side, self.wait_s = side, wait_s

    def __call__(self, slide: int, tiles: npt.NDArray[np.int64]) -> tuple[RgbArray, npt.NDArray[np.bool_]]:
        """See `TilePixels`."""
        time.sleep(self.wait_s)
        made = [
            generator_of(0, "tile", slide, tile).integers(
                0, 256 - 80 * (slide % 2 and tile < 2), (self.side,) * 2 + (3,)
            )
            for tile in tiles.tolist()
        ]
        return np.array(made, np.uint8), np.ones(len(tiles), bool)


def gradient_rows(side: int) -> list[list[object]]:
    """How far gradients of 61 tiles are from plain autograd in float64."""
    rows: list[list[object]] = []
    for method in AggregatorMethod:
        truth = _plain(method, side, torch.float64)
        found = [
            _joint(method, side, torch.float64),
            _plain(method, side, torch.float32),
            _joint(method, side, torch.float32),
        ]
        distances = [np.linalg.norm(one - truth) / np.linalg.norm(truth) for one in found]
        rows.append([str(method), *(f"{distance:.1e}" for distance in distances)])
    return rows


def _networks(method: AggregatorMethod, dtype: torch.dtype) -> tuple[torch.nn.Module, torch.nn.Module]:
    encoder = new_encoder("small-gn", 1)
    return encoder.to(dtype), new_aggregator(method, encoder.n_features, 1, 2).to(dtype)


def _gradient(*networks: torch.nn.Module) -> npt.NDArray[np.float64]:
    grads = [parameter.grad for network in networks for parameter in network.parameters()]
    return torch.cat([grad.reshape(-1) for grad in grads if grad is not None]).double().numpy()


def _plain(method: AggregatorMethod, side: int, dtype: torch.dtype) -> npt.NDArray[np.float64]:
    encoder, aggregator = _networks(method, dtype)
    pixels, _ = MadeTiles(side)(0, np.arange(61))
    kept = np.array([generator_of(5, "dropout", 0, 0, tile).random(128) >= _DROPOUT for tile in range(61)])
    features = encoder(torch.from_numpy(pixels)) * torch.from_numpy(kept / (1 - _DROPOUT)).to(dtype)
    torch.nn.functional.softplus(-aggregator(features[None])).sum().backward()  # type: ignore[no-untyped-call]
    return _gradient(encoder, aggregator)


def _joint(method: AggregatorMethod, side: int, dtype: torch.dtype) -> npt.NDArray[np.float64]:
    encoder, aggregator = _networks(method, dtype)
    source = EncodedTiles(encoder, 128, MadeTiles(side), 5, _DROPOUT)
    bag = Draw(0, 61, 8, ["slide"], [61]).bag(Case("slide", (0,), (1.0,)), 0)
    JointGradients(UnitPool(), source, aggregator, HEAD).of_step([bag], 0)  # type: ignore[arg-type]
    return _gradient(encoder, aggregator)


def train_here(folder: Path, method: str, *, slow: bool, kill: tuple[int, int] | None) -> str:
    """Train on all ranks; the digest of the weights."""
    from mpi4py import MPI

    world = MPI.COMM_WORLD
    looks = [0]

    def maybe_die() -> bool:
        looks[0] += 1
        if kill == (world.rank, looks[0]):
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    n_tiles = [14, 9, 20, 3, 11, 16, 8, 12, 10, 7, 13, 5]
    cases = [Case(f"slide {n}", (n,), (float(n % 2),)) for n in range(12)]
    encoder = new_encoder("small-gn", 1)
    aggregator = new_aggregator(AggregatorMethod(method), encoder.n_features, 1, 2)
    # as slow as the chunk is long: three times the time of the others
    tiles = MadeTiles(48, 0.03 if slow and world.rank == world.size - 1 else 0.0)
    trainer = SlideTrainer(
        UnitPool(world, stop=maybe_die),
        EncodedTiles(encoder, encoder.n_features, tiles, 5, _DROPOUT),
        aggregator,
        HEAD,
        Draw(1, 10, 4, [case.name for case in cases], n_tiles),
        {Split.TRAIN: cases[:6], Split.VALIDATION: cases[6:9], Split.TEST: cases[9:]},
        SlideFit(epochs=2, per_step=2, save_every_s=0.0),
    )
    return trainer.train(folder, {}).digest.hex()


def bits_rows(methods: list[str], kills: int) -> list[list[object]]:
    """Digests of weights that training in different ways comes to, and how often it was killed."""
    rows: list[list[object]] = []
    for method in methods:
        with tempfile.TemporaryDirectory() as name:
            program = ["-m", "bench.training.slides", "--train-here"]
            digests = []
            for number, (ranks, *more) in enumerate([(1,), (2,), (4,), (2, "slow"), (4, "slow")]):
                folder = Path(name) / str(number)
                folder.mkdir()
                digests.append(output_of(int(ranks), [*program, str(folder), method, *map(str, more)]))
            random, killed, folder = np.random.default_rng(0), 0, Path(name) / "killed"
            folder.mkdir()
            words = [*program, str(folder), method]
            while killed < kills:
                moment = f"kill={random.integers(0, 2)}:{random.integers(1, 25)}"
                job = mpirun(2, [*words, moment], show=False)
                if not job.returncode:  # was through before it was to be killed
                    break
                killed += 1
            digests.append(output_of(2, words))
        rows.append([method, *(digest[:8] for digest in digests), killed, len(set(digests)) == 1])
    return rows


def step_here(tiles: int, encoder_name: str, side: int) -> str:
    """Two steps of so many tiles: peak of resident bytes, and seconds of the second."""
    use_one_thread()
    encoder = new_encoder(encoder_name, 1)
    aggregator = new_aggregator(AggregatorMethod.ABMIL, encoder.n_features, 1, 2)
    source = EncodedTiles(encoder, encoder.n_features, MadeTiles(side), 5, _DROPOUT)
    gradients = JointGradients(UnitPool(), source, aggregator, HEAD)
    draw = Draw(0, tiles, 8, ["slide"], [tiles])
    for epoch in range(2):
        start = time.process_time()
        gradients.of_step([draw.bag(Case("slide", (0,), (1.0,)), epoch)], epoch)
    return f"{peak_resident_bytes()} {time.process_time() - start:.2f}"


def reading_rows() -> list[list[object]]:
    """Milliseconds that a tile of a slide takes to read, and to compute in both passes."""
    from bench.training.slide_cohort import model_of

    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as name:
        slide = Path(name) / "slide.tif"
        write_slide(SynthSpec(4096, 4096, seed=1), slide, threads=1)
        for side, mpp in ((224, 0.25), (224, 0.5)):
            model = replace(model_of(Path(name)), tile_size=side, base_mpp=mpp)
            source = [SlideInput(slide)]
            ((index,), _) = find_tissue(UnitPool(), source, model)
            tiles = TissueTiles(source, model, [index])
            chosen = np.sort(np.random.default_rng(0).permutation(len(index))[:64]).astype(np.int64)
            tiles(0, chosen[:1])
            start = time.process_time()
            pixels, _ = tiles(0, chosen)
            read = (time.process_time() - start) / len(chosen)
            for encoder_name in ("small-gn", "resnet18-gn"):
                encoder = new_encoder(encoder_name, 1)
                some = torch.from_numpy(pixels[:8])
                encoder(some).sum().backward()
                start = time.process_time()
                with torch.no_grad():
                    encoder(some)
                encoder(some).sum().backward()
                computed = (time.process_time() - start) / 8
                share = 2 * read / (2 * read + computed)
                rows.append([side, mpp, encoder_name, f"{2e3 * read:.1f}", f"{1e3 * computed:.1f}", f"{share:.1%}"])
    return rows


def main() -> None:
    """Measure, and say."""
    if sys.argv[1:2] == ["--train-here"]:
        use_one_thread()
        moment = next((word[5:].split(":") for word in sys.argv[4:] if word.startswith("kill=")), None)
        kill = None if moment is None else (int(moment[0]), int(moment[1]))
        digest = train_here(Path(sys.argv[2]), sys.argv[3], slow="slow" in sys.argv, kill=kill)
        from mpi4py import MPI

        if MPI.COMM_WORLD.rank == 0:
            print(digest, end="")
        return
    if sys.argv[1:2] == ["--step-here"]:
        print(step_here(int(sys.argv[2]), sys.argv[3], int(sys.argv[4])), end="")
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--kills", type=int, default=50, help="of each of the three aggregators' trainings together")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    use_one_thread()
    print("Gradient of 61 tiles with dropout, distance from plain autograd in float64:")
    heads = ["aggregator", "float64, two passes", "float32, plain autograd", "float32, two passes"]
    print_table(heads, gradient_rows(32))
    methods = ["abmil"] if options.quick else [str(method) for method in AggregatorMethod]
    kills = 2 if options.quick else -(-options.kills // len(methods))
    bits = bits_rows(methods, kills)
    print("\nDigest of the weights after two epochs:")
    ways = ["1 rank", "2", "4", "2, one slow", "4, one slow", "killed, resumed"]
    print_table(["aggregator", *ways, "kills", "all equal"], bits)
    figures = [Figure("digests equal", float(row[-1] is True), "", {"aggregator": row[0]}) for row in bits]
    print("\nOne step, small-gn, tiles of 224 px, one rank:")
    counts = (16, 64, 256) if options.quick else (16, 64, 256, 1024)
    memory = []
    for tiles in counts:
        peak, seconds = output_of(
            1, ["-m", "bench.training.slides", "--step-here", str(tiles), "small-gn", "224"]
        ).split()
        memory.append([tiles, f"{int(peak) / 2**20:.0f}", seconds])
        figures.append(Figure("peak memory of a step", int(peak) / 2**20, "MiB", {"K": tiles}))
    print_table(["K", "peak MiB", "CPU s"], memory)
    print("\nReading a slide's tiles (JPEG 256 px tiles, twice a step) beside computing them:")
    print_table(
        ["side px", "µm/px", "encoder", "read, ms a tile", "compute, ms a tile", "share of reading"], reading_rows()
    )
    report(figures, options.json)


if __name__ == "__main__":
    main()
