"""TRIDENT's extraction, `extract_patch_features`, with the network as an encoder of one feature: its log-odds.

Its tissue comes from networks that it fetches from a hub, and so cannot be had without one; the tiles are given to it
in a file of coordinates such as it writes. The number of processes that read is its own: three quarters of the cores.

The wheel that PyPI has lacks the folder `trident`, so that nobody can import it as it is: `_name_package` mends that.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys

import h5py
import numpy as np
import torch

from bench.peers.tiles.protocol import Request, load_network, normalised, serve


def _name_package() -> None:
    """Let what its wheel has at the top of site-packages be the package that it takes itself for."""
    top = importlib.metadata.distribution("trident-test").locate_file("")
    spec = importlib.util.spec_from_file_location(
        "trident", f"{top}/__init__.py", submodule_search_locations=[str(top)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"no package in {top}")
    sys.modules["trident"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["trident"])


_name_package()

from trident import OpenSlideWSI  # noqa: E402 - named above
from trident.patch_encoder_models.load import CustomInferenceEncoder  # noqa: E402
from trident.segmentation_models.load import segmentation_model_factory  # noqa: E402


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
