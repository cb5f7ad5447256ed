"""A vision transformer that has seen tissue for some minutes: weights for `bench.speed.encoder`.

    python -m bench.speed.encoder_weights TILES weights.pt [--seconds 600] [--network vit_small_patch16_224]

Random weights have activations unlike trained ones. So timm's network learns to tell every second tile of TILES (a
folder of folders) from the others: two views of each, cropped, turned and mirrored, are to have like features (InfoNCE,
as SimCLR has it). The tiles between are for the comparison. Some minutes make no foundation model, whose largest
activations stand out more. Where the file is there, it goes on from it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pyramidai_mpi.training.convert.timm_gate import timm

SIDE, BATCH = 224, 12
_RATE, _WARMING, _TEMPERATURE = 3e-4, 5, 0.2


def tile_files(folder: Path) -> list[tuple[Path, int]]:
    """Files of a folder of folders, with the number of their folder."""
    classes = sorted(one for one in folder.iterdir() if one.is_dir())
    return [(path, k) for k, one in enumerate(classes) for path in sorted(one.iterdir())]


def read_tile(path: Path, corner: tuple[float, float] = (0.5, 0.5), zoom: float = 0.0) -> np.ndarray:
    """A square of a picture, uint8 (224, 224, 3): where its corner lies, and how much more than 224 px it covers."""
    with Image.open(path) as picture:
        colours = picture.convert("RGB")
    width, height = colours.size
    side = min(width, height, round(SIDE * (1 + zoom)))
    x, y = (round(share * (whole - side)) for share, whole in zip(corner, (width, height), strict=True))
    return np.asarray(colours.crop((x, y, x + side, y + side)).resize((SIDE, SIDE)))


def _views(files: list[Path], rng: np.random.Generator) -> torch.Tensor:
    """Two views of each of some tiles, float32 (2 BATCH, 3, 224, 224): all first ones, then all second ones."""
    drawn, views = rng.choice(len(files), BATCH, replace=False), []
    for place in [*drawn, *drawn]:
        tile = read_tile(files[place], tuple(rng.random(2)), rng.random() * 0.3)
        tile = np.rot90(tile, int(rng.integers(4)))[:, :: int(rng.choice([-1, 1]))] / 255
        views.append(((tile - 0.5) / 0.5).astype(np.float32))
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


def _loss(features: torch.Tensor) -> torch.Tensor:
    """InfoNCE: of all other views, the same tile's is to be the nearest."""
    unit = torch.nn.functional.normalize(features, dim=1)
    alike = unit @ unit.T / _TEMPERATURE
    alike = alike.masked_fill(torch.eye(len(alike), dtype=torch.bool), -torch.inf)
    other = torch.arange(2 * BATCH).roll(BATCH)
    return torch.nn.functional.cross_entropy(alike, other)


def main() -> None:
    """Train, print the loss, write the state dict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tiles", type=Path)
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--network", default="vit_small_patch16_224")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    files = [path for path, _ in tile_files(asked.tiles)[::2]]
    network = timm.create_model(asked.network, num_classes=0)
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.05)
    step = 0
    if asked.weights.exists():
        state = torch.load(asked.weights)
        step = state["step"]
        network.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    rng, started, losses = np.random.default_rng(step), time.monotonic(), []
    while time.monotonic() < started + asked.seconds:
        views = _views(files, rng)
        with torch.autocast("cpu", torch.bfloat16):
            features = network(views)
        loss = _loss(features.float())
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / _WARMING)
        optimiser.step()
        step += 1
        losses.append(float(loss.detach()))
        if step % 10 == 0:
            print(f"step {step}: loss {np.mean(losses[-10:]):.3f}", flush=True)
    torch.save({"model": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, asked.weights)


if __name__ == "__main__":
    main()
