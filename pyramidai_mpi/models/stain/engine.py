"""Stain normalisation of tiles by onnxruntime, before the network of any level and backend sees them.

A graph of its own rather than a part of each network: no network is rewritten, whatever its operators and input, all
levels and backends see the same pixels, and tiles run one by one, so that none depends on its neighbours.

A tile of 224 x 224 takes 0.22 ms (Macenko) or 0.31 (Reinhard); in numpy it took 0.42. As part of each network's graph
it would take 0.1 ms less (`bench/speed/stain_cost.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.models.engines.onnx_engine import open_session
from pyramidai_mpi.models.stain.map import estimate

if TYPE_CHECKING:
    import numpy.typing as npt
    from onnxruntime import InferenceSession

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.stain.map import Matrix, StainMap, StainTarget

_STEPS = 65536
"""Of the table of logarithms of mixed values, from 0 to 1; 256 to a grey level, so that rounding to one is not seen."""


class StainEngine:
    """A loaded graph of `stain_graph`, for the maps of any number of slides.

    Parameters
    ----------
    graph
        What `stain_graph` returned.
    """

    def __init__(self, graph: bytes) -> None:
        self._session = open_session(graph)
        self._names = {value.name for value in self._session.get_inputs()} - {"pixels"}

    def normaliser(self, stain: StainMap) -> Normaliser:
        """Ready to normalise one slide.

        Raises
        ------
        InternalError
            When the graph is not that of maps of this kind.
        """
        numbers = _mixing_numbers(stain) if stain.mixes_channels else _plain_numbers(stain)
        if set(numbers) != self._names:
            raise InternalError(f"the graph of stain normalisation takes {sorted(self._names)}, got {sorted(numbers)}")
        return Normaliser(self._session, numbers)

    def tile_normaliser(self, target: StainTarget) -> TileNormaliser:
        """Ready to normalise tiles of any slides, each by its own stain."""
        return TileNormaliser(self, target)


@dataclass(frozen=True)
class Normaliser:
    """Normalises the stain of one slide."""

    session: InferenceSession
    numbers: dict[str, npt.NDArray[np.float32]]

    def __call__(self, pixels: RgbArray) -> RgbArray:
        """Normalised pixels, uint8 (height, width, 3), of uint8 (height, width, 3)."""
        (normalised,) = self.session.run(["normalised"], {"pixels": pixels[np.newaxis], **self.numbers})
        found: RgbArray = normalised[0]
        return found


@dataclass(frozen=True)
class TileNormaliser:
    """Brings whatever is given, a tile or a region of any size, to a target by the stain of its own pixels alone."""

    engine: StainEngine
    target: StainTarget

    def __call__(self, pixels: RgbArray) -> RgbArray:
        """Normalised pixels, uint8 (height, width, 3), of uint8 (height, width, 3).

        Raises
        ------
        StainError
            When too few of them are stained, or with one stain only.
        """
        return self.engine.normaliser(estimate(pixels.reshape(-1, 3), self.target))(pixels)


def _plain_numbers(stain: StainMap) -> dict[str, npt.NDArray[np.float32]]:
    """With factors before the logarithm and after the exponential brought into the shift between them."""
    inner, factors = np.array(stain.inner), np.log([np.diagonal(stain.first), np.diagonal(stain.outer)])
    return _as_inputs(np.log(np.arange(256) + 1.0), inner, inner @ factors[0] + stain.shift + factors[1])


def _mixing_numbers(stain: StainMap) -> dict[str, npt.NDArray[np.float32]]:
    first = np.array(stain.first)
    return _as_inputs(_logs_of_mixed(stain.first), np.array(stain.inner), np.array(stain.shift)) | {
        "first": _kernel(_STEPS * first),
        # of v + 1, and half a step so that cutting off rounds
        "first_shift": (_STEPS * first.sum(axis=1) + 0.5).astype(np.float32),
        "outer": _kernel(np.array(stain.outer)),
        "offset": np.full(3, stain.offset, np.float32),
    }


@lru_cache(maxsize=1)
def _logs_of_mixed(first: Matrix) -> npt.NDArray[np.float64]:
    """The table of logarithms. Made once: all maps of Reinhard's method mix alike, and a tile may have its own."""
    most = np.array(first).sum(axis=1).max() * 256
    values = np.arange(int(most * _STEPS) + 2) / _STEPS
    return np.asarray(np.log(np.maximum(values, 0.5 / _STEPS)))


def _as_inputs(
    logs: npt.NDArray[np.float64], inner: npt.NDArray[np.float64], shift: npt.NDArray[np.float64]
) -> dict[str, npt.NDArray[np.float32]]:
    return {"logs": logs[np.newaxis].astype(np.float32), "inner": _kernel(inner), "shift": shift.astype(np.float32)}


def _kernel(matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Of a 1 x 1 convolution."""
    return matrix.astype(np.float32)[..., np.newaxis, np.newaxis]
