"""What a script of a peer is asked, and what it answers.

The request is a JSON file with the fields of `Request`. The answer is the file `answer`, with the arrays ``corners``
(int64 (N, 2), x and y of the tile in level-0 pixels) and, unless tiles were only to be chosen, ``probabilities``
(float32 (N,)); and a last line on stdout, JSON with ``versions`` (of the named distributions) and ``first_s``, seconds
since the epoch when the network was first called.
"""

from __future__ import annotations

import importlib.metadata
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

MEAN = 0.5
"""The network takes RGB in [0, 1] less this mean, over this deviation."""


@dataclass(frozen=True)
class Request:
    """One run of a peer.

    Attributes
    ----------
    slide
        The slide.
    network
        TorchScript: float32 (B, 3, S, S), normalised, to log-odds (B, 1).
    answer
        To be written.
    folder
        An empty one, for what the peer writes.
    tiles
        ``.npz`` with the corners of the tiles to classify; None: the peer is to choose, and not to classify.
    spacing
        That the network was made for, micrometres a pixel.
    side
        S, the network's input and the tile's side in level-0 pixels.
    workers
        Processes that read for torch's loader.
    batch
        Tiles a call of the network.
    """

    slide: Path
    network: Path
    answer: Path
    folder: Path
    tiles: Path | None
    spacing: float
    side: int
    workers: int
    batch: int

    def corners(self) -> np.ndarray:
        """int64 (N, 2), those to classify."""
        if self.tiles is None:
            raise ValueError("no tiles were given: the peer is to choose them")
        with np.load(self.tiles) as arrays:
            corners: np.ndarray = arrays["corners"]
        return corners


_first_call_s: list[float] = []


def watch_first_call() -> None:
    """Note when torch first calls TorchScript, whoever has loaded it: such networks take no hooks of their own."""
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    def note(module: Any, _: Any) -> None:
        if isinstance(module, torch.jit.ScriptModule) and not _first_call_s:
            _first_call_s.append(time.time())

    register_module_forward_pre_hook(note)


def load_network(path: Path) -> Any:
    """The network as torch loads it, ready to be called; its first call is noted."""
    import torch

    watch_first_call()
    return torch.jit.load(str(path), map_location="cpu").eval()


def normalised(pixels: np.ndarray) -> Any:
    """A tensor (3, S, S) as the network takes it, of uint8 (S, S, 3)."""
    import torch

    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1).to(torch.float32).div(255).sub(MEAN).div(MEAN)


def serve(
    choose: Callable[[Request], np.ndarray],
    classify: Callable[[Request], tuple[np.ndarray, np.ndarray]],
    *distributions: str,
) -> None:
    """Read the request that the command line names, and answer it.

    Parameters
    ----------
    choose
        Corners of the peer's own choice.
    classify
        Corners and probabilities of the tiles asked for, in any order.
    *distributions
        Whose versions are told.
    """
    asked = json.loads(Path(sys.argv[1]).read_text())
    paths = {name: Path(asked[name]) for name in ("slide", "network", "answer", "folder")}
    tiles = None if asked["tiles"] is None else Path(asked["tiles"])
    numbers = {name: asked[name] for name in ("spacing", "side", "workers", "batch")}
    request = Request(tiles=tiles, **paths, **numbers)
    if request.tiles is None:
        np.savez(request.answer, corners=np.asarray(choose(request), np.int64))
    else:
        corners, probabilities = classify(request)
        np.savez(
            request.answer,
            corners=np.asarray(corners, np.int64),
            probabilities=np.asarray(probabilities, np.float32).reshape(-1),
        )
    versions = {name: importlib.metadata.version(name) for name in distributions}
    print(json.dumps({"versions": versions, "first_s": _first_call_s[0] if _first_call_s else None}))
