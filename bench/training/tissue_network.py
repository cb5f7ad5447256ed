"""A small network that finds tissue, beside the rule of optical density, by the score of the shared references.

python -m bench.training.tissue_network [--folder DIR] [--variants N] [--generated N] [--epochs N] [--network NAME]
    [--crop WIDTHxHEIGHT] [--steps N]

References: ``../shared/data/tissue``, thumbnails of real slides at 8 µm/px with what is tissue and glass for sure. A
network is trained for each block of tissue, on the slides of the others, in variants of other stain and light, and on
generated slides; it sees none of the block that it is scored on. ``train-whole`` trains, ``segment`` makes the masks.

What a reference does not say counts, in training alone, as what is nearest for sure. With --folder the networks stay.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

from pyramidai_mpi.slides.optical_density import find_stained
from pyramidai_mpi.synth.plan import draw_plan
from pyramidai_mpi.synth.slide import write_slide
from pyramidai_mpi.synth.spec import SynthSpec

if TYPE_CHECKING:
    import numpy.typing as npt

    Picture = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]

REFERENCES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "tissue"
BLOCKS = {
    "BS25": ("BS25-HE", "BS25-synaptophysin"),
    "anthracosis": ("anthracosis",),
    "breast": ("breast-lobular-carcinoma",),
}
"""Names of the references that are of one block of tissue, which are never on both sides."""
UM_PX = 8.0
_GENERATED_SIDE = 8192


def labels_of(reference: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Tissue, where a reference does not say of the kind of what is nearest for sure, bool (H, W)."""
    nearest = ndimage.distance_transform_edt(reference == 128, return_distances=False, return_indices=True)
    return np.asarray(reference[tuple(nearest)] == 255)


def variant(rgb: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """The thumbnail under another light, each channel with another strength of stain, uint8 (H, W, 3)."""
    strength = rng.uniform(0.6, 1.6) * rng.uniform(0.8, 1.25, 3)
    light = rng.uniform(0.8, 1.05) * rng.uniform(0.97, 1.0, 3)  # above 1.02 or so glass is white
    return np.asarray(np.rint(np.minimum(255 * light * (np.maximum(rgb, 1) / 255.0) ** strength, 255)), np.uint8)


def turned(image: npt.NDArray[np.generic], number: int) -> npt.NDArray[np.generic]:
    """One of the eight ways a slide can lie."""
    return np.rot90(image[:, ::-1] if number & 4 else image, number & 3)


def write_training(folder: Path, names: list[str], generated: list[Picture], variants: int, seed: int) -> None:
    """Slides and, beside them in ``masks``, what is tissue."""
    (folder / "masks").mkdir(parents=True)
    (folder / "slides").mkdir()
    rng = np.random.default_rng(seed)

    def keep(name: str, rgb: npt.NDArray[np.generic], tissue: npt.NDArray[np.generic]) -> None:
        tifffile.imwrite(
            folder / "slides" / f"{name}.tif", rgb, tile=(256, 256), photometric="rgb", compression="zlib",
            resolution=(1e4 / UM_PX, 1e4 / UM_PX), resolutionunit="CENTIMETER", metadata=None,
        )  # fmt: skip
        Image.fromarray(np.ascontiguousarray(tissue).astype(np.uint8) * 255).save(folder / "masks" / f"{name}.png")

    for name in names:
        rgb = np.asarray(Image.open(REFERENCES / f"{name}.jpg").convert("RGB"))
        tissue = labels_of(np.asarray(Image.open(REFERENCES / f"{name}.reference.png")))
        for number in range(variants):
            way = int(rng.integers(8))
            keep(f"{name}-{number}", turned(variant(rgb, rng), way), turned(tissue, way))
    for number, (rgb, tissue) in enumerate(generated):
        keep(f"generated-{number}", variant(rgb, rng), tissue)


def generated_slide(folder: Path, seed: int) -> Picture:
    """A generated slide at 8 µm/px, and where it has tissue: what is darker than the glass that is known of it.

    Its plan of tissue is coarser, and knows neither fat nor edges.
    """
    spec = SynthSpec(_GENERATED_SIDE, _GENERATED_SIDE, seed=seed, mpp=1.0)
    path = folder / f"generated-{seed}.tif"
    write_slide(spec, path, threads=1)
    from pyramidai_mpi.slides.pyramid import read_thumbnail
    from pyramidai_mpi.slides.readers.choice import open_slide

    reader = open_slide(path)
    rgb = read_thumbnail(reader, UM_PX)[0]
    reader.close()
    depth = draw_plan(spec).tissue
    side = _GENERATED_SIDE / UM_PX / len(rgb)
    at = np.minimum(((np.arange(len(rgb)) + 0.5) * side * UM_PX / depth.texel).astype(int), len(depth.values) - 1)
    path.unlink()
    path.with_suffix(".geojson").unlink()
    darkest = (255 - rgb.min(axis=2)).astype(np.float32)
    glass = np.median(darkest[depth.values[np.ix_(at, at)] <= 0])
    return rgb, ndimage.binary_closing(ndimage.uniform_filter(darkest - glass, 5) > 3, iterations=2)


def command(*words: object) -> None:
    """Run the program."""
    subprocess.run([sys.executable, "-m", "pyramidai_mpi", *map(str, words)], check=True)


def cpu_seconds() -> float:
    """Of all that this process has waited for."""
    times = os.times()
    return times.children_user + times.children_system


def main() -> None:
    """Train, segment, score, and print a line a reference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--variants", type=int, default=6)
    parser.add_argument("--generated", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--network", default="contrast")
    parser.add_argument("--crop", default="1024x1024")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block", choices=BLOCKS, action="append", help="Score these only.")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.folder or Path(temporary)
        generated = [generated_slide(Path(temporary), number) for number in range(chosen.generated)]
        rows = [row for block in chosen.block or BLOCKS for row in scored(folder / block, block, chosen, generated)]
    for row in rows:
        print(json.dumps(row))


def scored(folder: Path, block: str, chosen: argparse.Namespace, generated: list[Picture]) -> list[dict[str, object]]:
    """Rule and network on a block's references."""
    spec = importlib.util.spec_from_file_location("score", REFERENCES / "score.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    others = [name for key, names in BLOCKS.items() if key != block for name in names]
    write_training(folder, others, generated, chosen.variants, chosen.seed)
    begun = cpu_seconds()
    words = ["--crop", chosen.crop, "--epochs", chosen.epochs, "--steps", chosen.steps, "--patience", 0, "--quiet"]
    words += ["--network", chosen.network, "--learning-rate", chosen.learning_rate, "--seed", chosen.seed]
    package = folder / "package"
    command("train-whole", folder / "slides", "--masks", folder / "masks", *words, "-o", package)
    trained = cpu_seconds() - begun
    rows = []
    for name in BLOCKS[block]:
        picture = REFERENCES / f"{name}.jpg"
        begun, started = cpu_seconds(), time.perf_counter()
        mask_path = folder / f"{name}_mask.tif"
        command("segment", picture, "--model", package, "--mpp", UM_PX, "-o", mask_path, "--quiet")
        segmented = cpu_seconds() - begun
        reference = np.asarray(Image.open(REFERENCES / f"{name}.reference.png"))
        rgb = np.asarray(Image.open(picture).convert("RGB"))
        rule = find_stained(rgb, np.ones(rgb.shape[:2], bool), um_px=UM_PX)
        mask = np.asarray(Image.open(mask_path)) == 1
        for way, found in (("rule", rule), ("network", mask)):
            in_mask, looked_at, glass = module.score(found, reference)
            glass_in_mask = float(found[reference == 0].mean())
            seen = module.tiles(found, 28, 0.05) & module.tiles(found, 7, 0)
            rows.append(
                {
                    "slide": name,
                    "way": way,
                    "in_mask": round(float(in_mask), 4),
                    "looked_at": round(float(looked_at), 4),
                    "glass_looked_at": round(float(glass), 5),
                    "glass_in_mask": round(glass_in_mask, 5),
                    "neither_looked_at": round(float(seen[reference == 128].mean()), 3),
                }
            )
        rows[-1] |= {"train_cpu_s": round(trained, 1), "segment_cpu_s": round(segmented, 1)}
        rows[-1]["segment_s"] = round(time.perf_counter() - started, 1)
    return rows


if __name__ == "__main__":
    main()
