"""TIAToolbox: `PatchPredictor` on a slide, with a model of one's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from tiatoolbox.models.dataset import WSIPatchDataset
from tiatoolbox.models.engine.io_config import IOPatchPredictorConfig
from tiatoolbox.models.engine.patch_predictor import PatchPredictor
from tiatoolbox.models.models_abc import ModelABC

from bench.peers.tiles.protocol import Request, load_network, normalised, serve

_BASE = {"units": "baseline", "resolution": 1.0}


class Model(ModelABC):
    """The network as TIAToolbox calls models."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 1)."""
        return torch.sigmoid(self.network(images))

    @staticmethod
    def preproc(image: np.ndarray) -> torch.Tensor:
        """A tile as the network takes it; called by those who read."""
        return normalised(image)

    @staticmethod
    def infer_batch(model: torch.nn.Module, batch_data: torch.Tensor, *, device: str) -> np.ndarray:
        """One batch."""
        with torch.inference_mode():
            return model(batch_data.to(device)).numpy()


class Predictor(PatchPredictor):
    """Its engine, with tiles that were chosen before."""

    corners: np.ndarray
    side: int

    def get_dataloader(self, *arguments: Any, **options: Any) -> Any:
        """The loader, its places exchanged before it is used."""
        loader = super().get_dataloader(*arguments, **(options | {"auto_get_mask": False}))
        loader.dataset.inputs = np.concatenate([self.corners, self.corners + self.side], axis=1)
        loader.dataset.outputs = loader.dataset.inputs
        return loader


def choose(request: Request) -> np.ndarray:
    """By its own tissue: Otsu's threshold, and every tile that touches it."""
    dataset = WSIPatchDataset(
        request.slide,
        patch_input_shape=(request.side, request.side),
        stride_shape=(request.side, request.side),
        resolution=1.0,
        units="baseline",
    )
    return dataset.inputs[:, :2]


def classify(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """The tiles asked for."""
    predictor = Predictor(
        Model(load_network(request.network)), batch_size=request.batch, num_workers=request.workers, verbose=False
    )
    predictor.corners, predictor.side = request.corners(), request.side
    shape = (request.side, request.side)
    config = IOPatchPredictorConfig(
        input_resolutions=[_BASE], output_resolutions=[], patch_input_shape=shape, stride_shape=shape
    )
    found = predictor.run(
        [request.slide],
        patch_mode=False,
        ioconfig=config,
        save_dir=request.folder / "results",
        output_type="zarr",
        return_probabilities=True,
        device="cpu",
    )
    import zarr

    result = zarr.open(str(found[request.slide]), mode="r")
    return np.asarray(result["coordinates"])[:, :2], np.asarray(result["probabilities"])[:, 0]


if __name__ == "__main__":
    serve(choose, classify, "tiatoolbox", "torch", "openslide-python")
