"""LazySlide: its tissue, its tiles, and `tile_prediction` with a model of one's own."""

from __future__ import annotations

from typing import Any

import geopandas
import lazyslide
import numpy as np
import shapely
import torch
from lazyslide.preprocess._tiles import _add_tiles
from wsidata import TileSpec, open_wsi

from bench.peers.tiles.protocol import Request, load_network, normalised, serve


class Model:
    """What LazySlide asks of a model that predicts tiles."""

    def __init__(self, network: Any) -> None:
        self._network = network

    def to(self, device: str) -> Model:
        """Where it runs."""
        self._network.to(device)
        return self

    def predict(self, images: torch.Tensor) -> dict[str, np.ndarray]:
        """A column of probabilities."""
        return {"tumor": torch.sigmoid(self._network(images)[:, 0]).numpy()}


def choose(request: Request) -> np.ndarray:
    """By its own tissue."""
    wsi = open_wsi(request.slide)
    lazyslide.pp.find_tissues(wsi)
    lazyslide.pp.tile_tissues(wsi, request.side, mpp=request.spacing)
    return wsi.shapes["tiles"].bounds[["minx", "miny"]].to_numpy()


def classify(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """The tiles asked for, put in where its own would be."""
    wsi = open_wsi(request.slide)
    low = request.corners()
    boxes = shapely.box(low[:, 0], low[:, 1], low[:, 0] + request.side, low[:, 1] + request.side)
    frame = geopandas.GeoDataFrame({"tile_id": np.arange(len(low)), "tissue_id": 0}, geometry=boxes)
    _add_tiles(wsi, frame, TileSpec.from_wsidata(wsi, tile_px=request.side), key_added="tiles")
    lazyslide.tl.tile_prediction(
        wsi,
        Model(load_network(request.network)),
        transform=normalised,
        batch_size=request.batch,
        num_workers=request.workers,
        device="cpu",
        pbar=False,
    )
    tiles = wsi.shapes["tiles"]
    return tiles.bounds[["minx", "miny"]].to_numpy(), tiles["tumor"].to_numpy()


if __name__ == "__main__":
    serve(choose, classify, "lazyslide", "torch")
