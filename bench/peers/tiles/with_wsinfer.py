"""WSInfer's own command, `wsinfer run`, from its own tissue to its CSV and GeoJSON.

It asks a hub for the list of its zoo when its command line is imported, whether or not a model of the zoo is wanted,
and ends if there is no network: an empty list is put in its place. Tiles are given to it as the file of patches that
its first step writes, which it then takes as done.
"""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import h5py
import numpy as np
import wsinfer_zoo.client

from bench.peers.tiles.protocol import Request, serve, watch_first_call

if TYPE_CHECKING:
    from pathlib import Path

wsinfer_zoo.client.load_registry = lambda *_: wsinfer_zoo.client.ModelRegistry(models={})

from wsinfer.cli.cli import cli  # noqa: E402 - reads the registry
from wsinfer.patchlib import segment_and_patch_directory_of_slides  # noqa: E402


def _slides(request: Request) -> Path:
    folder = request.folder / "slides"
    folder.mkdir()
    (folder / request.slide.name).symlink_to(request.slide.resolve())
    return folder


def _patches(request: Request) -> Path:
    return request.folder / "results" / "patches" / f"{request.slide.stem}.h5"


def choose(request: Request) -> np.ndarray:
    """By its own tissue: a threshold of the saturation on a thumbnail, and the middles of tiles."""
    segment_and_patch_directory_of_slides(_slides(request), request.folder / "results", request.side, request.spacing)
    with h5py.File(_patches(request)) as file:
        corners: np.ndarray = file["coords"][:]
    return corners


def classify(request: Request) -> tuple[np.ndarray, np.ndarray]:
    """By its command, with its own number of workers."""
    _patches(request).parent.mkdir(parents=True)
    with h5py.File(_patches(request), "w") as file:
        file["coords"] = request.corners()
        file["coords"].attrs.update(patch_size=request.side, patch_level=0)
    mask = request.folder / "results" / "masks" / f"{request.slide.stem}.jpg"
    mask.parent.mkdir()
    mask.touch()
    config = {
        "spec_version": "1.0",
        "architecture": "inception_v3",
        "num_classes": 1,
        "patch_size_pixels": request.side,
        "spacing_um_px": request.spacing,
        "class_names": ["tumor"],
        "transform": [
            {"name": "Resize", "arguments": {"size": request.side}},
            {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}},
        ],
    }
    (request.folder / "config.json").write_text(json.dumps(config))
    watch_first_call()
    results = request.folder / "results"
    words = ["run", "--wsi-dir", _slides(request), "--results-dir", results, "--batch-size", request.batch]
    words += ["--config", request.folder / "config.json", "--model-path", request.network]
    cli.main([str(word) for word in words], standalone_mode=False)
    with (results / "model-outputs-csv" / f"{request.slide.stem}.csv").open() as file:
        rows = list(csv.DictReader(file))
    corners = np.array([(int(row["minx"]), int(row["miny"])) for row in rows])
    return corners, np.array([float(row["prob_tumor"]) for row in rows])


if __name__ == "__main__":
    serve(choose, classify, "wsinfer", "torch", "tiffslide")
