"""The loop that WSInfer and tools like it run, written anew with their settings: every tissue tile at full resolution.

    python -m bench.speed.wsinfer_like RESULT.h5 --slide SLIDE --state FILE -o SCORES.npz [--threads N]

Read at level 0 with OpenSlide through a DataLoader without workers, PIL to RGB and to the network's size, to float32,
normalised, in batches of 32 to a TorchScript network on all threads of torch. WSInfer's Python function does so unless
told otherwise; its command has as many workers as there are cores, at most 8, and is faster: `bench.peers` measures it.
The tiles are those of RESULT.h5, a reference run: finding them is not counted. FILE is what `pyramidai train` keeps of
level 0 in its work folder. Prints tiles and seconds of the loop as JSON.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import openslide
import torch
from PIL import Image
from torch import nn

from bench.command_line import command_line
from pyramidai_mpi.training.networks.inception import random_network

if TYPE_CHECKING:
    from pyramidai_mpi.training.networks.inception import Inception

TILE = 224
BATCH = 32


class Patches(torch.utils.data.Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Tiles of a slide as normalised floats with their corners.

    Parameters
    ----------
    slide
        Opened here.
    corners
        int64 (N, 2), level-0 pixels.
    side
        Of a tile in level-0 pixels.
    """

    def __init__(self, slide: Path, corners: np.ndarray, side: int) -> None:
        self._slide = openslide.OpenSlide(slide)
        self._corners = corners
        self._side = side

    def __len__(self) -> int:
        return len(self._corners)

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        corner = self._corners[position]
        image = self._slide.read_region((int(corner[0]), int(corner[1])), 0, (self._side, self._side)).convert("RGB")
        image = image.resize((TILE, TILE), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).to(torch.float32).div(255)
        return pixels.sub(0.5).div(0.5), torch.as_tensor(corner)


class Logits(nn.Module):
    """The trained network as such tools get it: floats in, log-odds out."""

    def __init__(self, network: Inception) -> None:
        super().__init__()
        self.network = network

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """float32 (B, 1) of float32 (B, 3, 224, 224)."""
        return self.network.logit(self.network.features_of_floats(maps))


def load_network(state: Path) -> torch.jit.ScriptModule:
    """TorchScript of the best weights that training kept, or of a file of weights alone."""
    network = random_network(0)
    kept = torch.load(state, map_location="cpu", weights_only=True)
    network.load_state_dict(kept["state"]["kept"]["best"]["network"] if "state" in kept else kept)
    network.eval()
    traced: torch.jit.ScriptModule = torch.jit.trace(Logits(network).eval(), torch.zeros(1, 3, TILE, TILE))
    return traced


def main() -> None:
    """Run the loop once."""
    parser = command_line(__doc__)
    parser.add_argument("result", type=Path)
    parser.add_argument("--slide", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=None)
    arguments = parser.parse_args()
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    with h5py.File(arguments.result) as file:
        level = file["levels/0"]
        corners, side = level["coords"][:], int(level.attrs["patch_size_level0"])
    network = load_network(arguments.state)
    started = time.perf_counter()
    scores = []
    loader = torch.utils.data.DataLoader(Patches(arguments.slide, corners, side), batch_size=BATCH)
    for pixels, _ in loader:
        with torch.no_grad():
            scores.append(torch.sigmoid(network(pixels)[:, 0]).numpy())
    seconds = time.perf_counter() - started
    np.savez(arguments.output, corners=corners, scores=np.concatenate(scores))
    print(json.dumps({"tiles": len(corners), "loop_s": seconds}))


if __name__ == "__main__":
    main()
