"""MONAI: `SlidingPatchWSIDataset` over the whole slide, or `PatchWSIDataset` at given places, read with OpenSlide.

It has no tissue of its own at this level, so left alone it takes every window. `PatchWSIDataset` opens the slide anew
for every patch, and says why: not to keep OpenSlide's cache.
"""

from __future__ import annotations

import numpy as np
import torch
from monai.data import DataLoader, PatchWSIDataset, SlidingPatchWSIDataset

from bench.peers.tiles.protocol import Request, load_network, normalised, serve

_OPENSLIDE = "OpenSlide"


def choose(request: Request) -> np.ndarray:
    """All windows; MONAI counts rows first."""
    data = SlidingPatchWSIDataset(
        [{"image": str(request.slide)}], patch_size=request.side, patch_level=0, reader=_OPENSLIDE
    ).data
    return np.array([sample["location"][::-1] for sample in data])


def _to_network(sample: dict) -> torch.Tensor:
    return normalised(np.moveaxis(np.asarray(sample["image"]).astype(np.uint8), 0, -1))


def classify(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """The tiles asked for."""
    corners = request.corners()
    dataset = PatchWSIDataset(
        [{"image": str(request.slide), "location": [int(y), int(x)]} for x, y in corners],
        patch_size=request.side,
        patch_level=0,
        include_label=False,
        center_location=False,
        reader=_OPENSLIDE,
        transform=_to_network,
    )
    network = load_network(request.network)
    loader = DataLoader(dataset, batch_size=request.batch, num_workers=request.workers)
    with torch.inference_mode():
        found = [torch.sigmoid(network(torch.as_tensor(maps))[:, 0]).numpy() for maps in loader]
    return corners, np.concatenate(found)


if __name__ == "__main__":
    serve(choose, classify, "monai", "torch", "openslide-python")
