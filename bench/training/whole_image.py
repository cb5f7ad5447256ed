"""Training on whole images: exact gradients of a gigapixel, their bits, time and memory, and what is learnt.

    python -m bench.training.whole_image [--quick] [--kills N] [--work FOLDER] [--json FILE]

*Gradient*: of one image, in blocks, against plain autograd in float64. *Step*: one exact step on an image of 64000 x
16000 pixels on two ranks, and on one of 16 megapixels for the memory. *Bits*: digests of small trainings on 1, 2 and 4
ranks, with a slow rank, and after kills at random moments. *Learning*: `train-whole` on generated slides, and Dice on
others. ``--quick`` does all that on small images; its times and memory mean nothing.
"""

from __future__ import annotations

import copy
import json
import os
import random
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench.command_line import command_line
from bench.figures import Figure, report
from bench.on_ranks import output_of, run_program
from pyramidai_mpi.store.files.placing import stamp_of
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import kill, started

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import nn

    from pyramidai_mpi.training.whole.images import ArrayImage

RANKS = "bench/training/whole_image_ranks.py"
WHOLE, SIXTEEN = (64000, 16000), (4096, 4000)
QUICK_WHOLE, QUICK_SIXTEEN = (4096, 3072), (1024, 1000)
_BAND = 1000
_WITHIN_S = 1.5
"""A few steps of the small trainings that are killed."""


def write_image(folder: Path, size: tuple[int, int]) -> None:
    """An image as a training keeps it: blobs of tissue on glass, with noise."""
    from scipy import ndimage

    width, height = size
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    low = ndimage.gaussian_filter(rng.standard_normal((-(-height // 32), -(-width // 32)), np.float32), 6)
    tissue = low > np.quantile(low, 0.6)
    with (folder / "dark").open("wb") as dark, (folder / "marks").open("wb") as marks:
        for first in range(0, height, _BAND):
            rows = tissue[np.arange(first, min(first + _BAND, height)) // 32].repeat(32, axis=1)[:, :width]
            noise = rng.integers(0, 17, rows.shape, dtype=np.uint8)
            dark.write((np.where(rows, np.uint8(82), np.uint8(0)) + noise).tobytes())
            marks.write(np.packbits(rows, axis=1).tobytes())


def gradients(size: tuple[int, int]) -> list[Figure]:
    """How far gradients are from plain autograd's in float64, relative to their norm."""
    import torch

    from bench.training.whole_image_ranks import BLOCK, FIELD, new_network
    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.gradients import ExactGradients
    from pyramidai_mpi.training.whole.images import ArrayImage
    from pyramidai_mpi.training.whole.step import BITS, ImageStep

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "image"
        write_image(folder, size)
        dark = np.fromfile(folder / "dark", np.uint8).reshape(size[::-1])
        packed = np.fromfile(folder / "marks", np.uint8).reshape(size[1], -1)
    image = ArrayImage("image", dark, np.unpackbits(packed, axis=1)[:, : size[0]].astype(bool))
    expected = plain_gradient(new_network().double(), image)

    def in_blocks(network: nn.Module) -> npt.NDArray[np.float64]:
        step = ImageStep(network, FIELD, BLOCK, image)
        ExactGradients({"network": network}, BITS, "block").of_step(UnitPool(), len(step.blocks), step.loss)
        return flat_gradient(network)

    found = {
        "float64, blocks": in_blocks(new_network().double()),
        "float32, one graph": plain_gradient(new_network(), image),
        "float32, blocks": in_blocks(new_network()),
    }
    off = {name: float(np.linalg.norm(one - expected) / np.linalg.norm(expected)) for name, one in found.items()}
    assert off["float64, blocks"] <= 1e-10
    assert off["float32, blocks"] < off["float32, one graph"]
    assert torch.get_num_threads() == 1
    setting = {"pixels": f"{size[0]} x {size[1]}"}
    return [Figure(f"gradient off by, {name}, in 1e-12", value * 1e12, "", setting) for name, value in off.items()]


def plain_gradient(network: nn.Module, image: ArrayImage) -> npt.NDArray[np.float64]:
    """Of the mean loss, by one graph of the layers as they are described: pixels repeated, then convolved."""
    import torch
    from torch.nn import functional

    layers = dict(copy.deepcopy(network).named_children())
    dtype = next(network.parameters()).dtype
    (height, width), stride = image.dark.shape, 32
    pixels = torch.zeros(1, 1, -(-height // stride) * stride, -(-width // stride) * stride, dtype=dtype)
    pixels[0, 0, :height, :width] = torch.from_numpy(image.dark).to(dtype) / 255

    def repeated(layer: torch.Tensor, by: int) -> torch.Tensor:
        return functional.interpolate(layer, scale_factor=by, mode="nearest")

    first = layers["down1"](pixels).relu()
    second = layers["down2"](first).relu()
    deepest = layers["bottom"](layers["down3"](second).relu()).relu()
    middle = layers["up2"](repeated(deepest, 2)).relu() + second
    logits = layers["out"](repeated(layers["up1"](repeated(middle, 4)).relu() + first, 4))
    truth = torch.from_numpy(image.marks).to(dtype)
    functional.binary_cross_entropy_with_logits(logits[0, 0, :height, :width], truth).backward()
    return np.concatenate(
        [parameter.grad.double().numpy().reshape(-1) for layer in layers.values() for parameter in layer.parameters()]
    )


def flat_gradient(network: nn.Module) -> npt.NDArray[np.float64]:
    """All gradients of a network, one after the other."""
    return np.concatenate(
        [one.grad.double().numpy().reshape(-1) for one in network.parameters() if one.grad is not None]
    )


def steps(work: Path, whole: tuple[int, int], small: tuple[int, int]) -> list[Figure]:
    """Time and memory of one exact step on two ranks."""
    figures, peaks = [], []
    for size in (small, whole):
        folder = work / f"image-{size[0]}"
        write_image(folder, size)
        told = json.loads(output_of(2, [RANKS, "step", folder, str(size[0]), str(size[1])]))
        shutil.rmtree(folder)
        peaks.append(told["peak_bytes"])
        setting = {"pixels": f"{size[0]} x {size[1]}", "ranks": 2}
        figures += [
            Figure("step, wall", told["wall_s"], "s", setting),
            Figure("step, CPU of all ranks", told["cpu_s"], "s", setting),
            Figure("step, CPU a megapixel", told["cpu_s"] / (size[0] * size[1]) * 1e9, "ms", setting),
            Figure("step, memory of the larger rank", told["peak_bytes"] / 1e9, "GB", setting),
            Figure("step, busiest over mean", told["busiest_over_ideal"], "", setting),
        ]
    setting = {"from": f"{small[0]} x {small[1]}", "to": f"{whole[0]} x {whole[1]}"}
    return [*figures, Figure("memory, larger image over smaller", peaks[1] / peaks[0], "", setting)]


def bits(work: Path, kills: int) -> list[Figure]:
    """Digests of small trainings on any ranks, in any way."""
    digests = {}
    for name, ranks, words in (
        ("1 rank", 1, ()),
        ("2 ranks", 2, ()),
        ("4 ranks", 4, ()),
        ("2, one slow", 2, ("slow",)),
    ):
        folder = work / f"bits-{name.replace(' ', '-')}"
        folder.mkdir()
        digests[name] = output_of(ranks, [RANKS, "train", folder, *words])
    assert len(set(digests.values())) == 1, digests
    another = work / "another"
    another.mkdir()
    assert output_of(1, [RANKS, "train", another, "another-seed"]) != digests["1 rank"]
    folder, rng, hit = work / "killed", random.Random(0), 0
    folder.mkdir()
    state = folder / "state.pt"
    for _ in range(kills):
        with started(2, [RANKS, "train", str(folder), "slow"]) as job:
            before = stamp_of(state)
            while stamp_of(state) == before and job.launcher.poll() is None:
                time.sleep(0.01)
            time.sleep(rng.uniform(0, _WITHIN_S))
            if job.launcher.poll() is None:
                kill(rng.choice(list(job.ranks().values())))
                hit += 1
                job.wait()
    assert output_of(3, [RANKS, "train", folder]) == digests["1 rank"]
    return [Figure("digests that are equal", len(digests) + 1, "", {"ways": ", ".join(digests)}),
            Figure("kills among them", hit, "", {"at": "random moments of 2 ranks, then 3"})]  # fmt: skip


def learning(work: Path, *, quick: bool) -> list[Figure]:
    """What `train-whole` learns of generated slides, told by others; and what decoding takes."""
    import onnxruntime

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.whole.blocks import Box
    from pyramidai_mpi.training.whole.keeping import ImageOrder, keep_slides

    (work / "slides").mkdir()
    size = (900, 800) if quick else (3000, 2400)
    slides = [
        write_slide(SynthSpec(*size, seed=seed, mpp=0.5, tumor_share=0.0), work / f"slides/s{seed:02}.tif").path
        for seed in range(6 if quick else 12)
    ]
    n_learnt = len(slides) * 3 // 4
    crop, epochs, of_epoch = ("512x512", "2", "6") if quick else ("1536x1536", "15", "20")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run_program(1, ["train-whole", *slides[:n_learnt], "--masks", "tissue-recipe", "--crop", crop, "--epochs", epochs,
                    "--steps", of_epoch, "-o", work / "package"])  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (work / "kept").mkdir()
    begun = time.process_time()
    kept = keep_slides(UnitPool(), slides[n_learnt:], ImageOrder(None), work / "kept")
    keeping = time.process_time() - begun
    session = onnxruntime.InferenceSession(work / "package/network.onnx")
    dice = []
    for slide in kept:
        from pyramidai_mpi.run.slide_plane import SlidePlane

        plane, (width, height) = SlidePlane(slide.facts.path, is_known=True), slide.facts.size
        padded = (-(-width // 32) * 32, -(-height // 32) * 32)
        (found,) = session.run(None, {"pixels": plane.read((0, 0), padded)[None]})
        plane.close()
        marked, tissue = slide.image().labels(Box(0, 0, width, height)), found[0, :height, :width] >= 0.5
        dice.append(2 * np.count_nonzero(marked & tissue) / max(marked.sum() + tissue.sum(), 1))
    pixels = len(kept) * size[0] * size[1]
    on_disk = sum(path.stat().st_size for path in (work / "kept").iterdir())
    setting = {"slides": f"{n_learnt} of {size[0]} x {size[1]}", "steps": int(epochs) * int(of_epoch), "crop": crop}
    return [
        Figure("Dice on unseen slides, mean", float(np.mean(dice)), "", {"slides": len(kept)}),
        Figure("Dice on unseen slides, lowest", float(np.min(dice)), "", {"slides": len(kept)}),
        Figure("CPU of the whole command", cpu, "s", setting),
        Figure("decoding and labelling, CPU a megapixel", keeping / pixels * 1e9, "ms"),
        Figure("kept on disk, a pixel", on_disk / pixels, "bytes"),
    ]


def main() -> None:
    """Measure what the command line asks for."""
    parser = command_line(__doc__, "json")
    parser.add_argument("--quick", action="store_true", help="small images: does it run?")
    parser.add_argument("--kills", type=int, default=5, metavar="N", help="kills at random moments")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="where 2 GB are free for a while")
    parser.add_argument(
        "--only", choices=["gradient", "step", "bits", "learning"], action="append", help="leave out all others"
    )
    options = parser.parse_args()
    from pyramidai_mpi.training.torch_setup import use_one_thread

    use_one_thread()
    wanted = options.only or ["gradient", "step", "bits", "learning"]
    with tempfile.TemporaryDirectory(dir=options.work) as temporary:
        work, figures = Path(temporary), []
        if "gradient" in wanted:
            figures += gradients(QUICK_SIXTEEN if options.quick else SIXTEEN)
        if "step" in wanted:
            sizes = (QUICK_WHOLE, QUICK_SIXTEEN) if options.quick else (WHOLE, SIXTEEN)
            figures += steps(work, *sizes)
        if "bits" in wanted:
            figures += bits(work, min(options.kills, 1) if options.quick else options.kills)
        if "learning" in wanted:
            figures += learning(work, quick=options.quick)
    report(figures, options.json)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
