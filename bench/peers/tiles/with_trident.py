"""TRIDENT's extraction, `extract_patch_features`, with the network as an encoder of one feature: its log-odds.

Its tissue comes from networks that it fetches from a hub, and so cannot be had without one; the tiles are given to it
in a file of coordinates such as it writes. The number of processes that read is its own: three quarters of the cores.
"""

from __future__ import annotations

import h5py
import numpy as np
import torch
from trident import OpenSlideWSI
from trident.patch_encoder_models.load import CustomInferenceEncoder
from trident.segmentation_models.load import segmentation_model_factory

from bench.peers.tiles.protocol import Request, load_network, normalised, serve


def choose(request: Request) -> np.ndarray:
    """By its own tissue."""
    wsi = OpenSlideWSI(slide_path=str(request.slide), lazy_init=False)
    wsi.segment_tissue(segmentation_model_factory("hest"), job_dir=str(request.folder), device="cpu")
    magnification = int(10 / request.spacing)
    with h5py.File(wsi.extract_tissue_coords(magnification, request.side, str(request.folder))) as file:
        corners: np.ndarray = file["coords"][:]
    return corners


def classify(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """The tiles asked for."""
    wsi = OpenSlideWSI(slide_path=str(request.slide), lazy_init=False)
    coords = request.folder / "coords.h5"
    with h5py.File(coords, "w") as file:
        file["coords"] = request.corners()
        file["coords"].attrs.update(
            patch_size=request.side,
            patch_size_level0=request.side,
            level0_magnification=wsi.mag,
            target_magnification=wsi.mag,
            overlap=0,
        )
    encoder = CustomInferenceEncoder(
        "inception", load_network(request.network), lambda image: normalised(np.asarray(image)), torch.float32
    )
    # its forward is left to subclasses
    encoder.forward = encoder.model
    features = wsi.extract_patch_features(
        encoder, str(coords), str(request.folder), device="cpu", batch_limit=request.batch
    )
    with h5py.File(features) as file:
        logits, corners = file["features"][:], file["coords"][:]
    return corners, 1 / (1 + np.exp(-logits[:, 0].astype(np.float64)))


if __name__ == "__main__":
    serve(choose, classify, "trident-test", "torch", "openslide-python")
