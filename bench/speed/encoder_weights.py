"""A vision transformer that has seen tissue for some minutes: weights for `bench.speed.encoder`.

    python -m bench.speed.encoder_weights TILES weights.pt [--seconds 600] [--network vit_small_patch16_224]

Random weights have activations unlike trained ones. So timm's network learns the classes of the folders of TILES (one a
class) from every second tile, turned, mirrored and with other colours; the tiles between are for the comparison. That
is far from a foundation model, whose largest activations stand out more. Where the file is there, it goes on from it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pyramidai_mpi.training.convert.timm_gate import timm

SIDE, BATCH = 224, 16
_RATE, _WARMING = 3e-4, 20


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


def _batch(files: list[tuple[Path, int]], rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    tiles, labels = [], []
    for place in rng.integers(0, len(files), BATCH):
        path, label = files[place]
        tile = np.rot90(read_tile(path, tuple(rng.random(2)), rng.random() * 0.3), int(rng.integers(4)))
        tile = tile[:, :: int(rng.choice([-1, 1]))] / 255 * rng.uniform(0.8, 1.2, 3)
        tiles.append(((tile - 0.5) / 0.5).astype(np.float32))
        labels.append(label)
    return torch.from_numpy(np.stack(tiles)).permute(0, 3, 1, 2), torch.tensor(labels)


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
    files = tile_files(asked.tiles)[::2]
    network = timm.create_model(asked.network, num_classes=1 + max(label for _, label in files))
    optimiser = torch.optim.AdamW(network.parameters(), _RATE, weight_decay=0.05)
    step = 0
    if asked.weights.exists():
        state = torch.load(asked.weights)
        step = state["step"]
        network.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    rng, started, losses = np.random.default_rng(step), time.monotonic(), []
    while time.monotonic() < started + asked.seconds:
        tiles, labels = _batch(files, rng)
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(tiles).float(), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1, (step + 1) / _WARMING)
        optimiser.step()
        step += 1
        losses.append(float(loss.detach()))
        if step % 20 == 0:
            print(f"step {step}: loss {np.mean(losses[-20:]):.3f}", flush=True)
    torch.save({"model": network.state_dict(), "optimiser": optimiser.state_dict(), "step": step}, asked.weights)


if __name__ == "__main__":
    main()
