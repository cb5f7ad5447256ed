"""What all engines share: one fixed batch shape, padded, so that a tile's result depends on the tile alone.

Matrix kernels round differently by batch shape, and may by place in the batch. So a network is only ever run with one
fixed batch shape, short batches padded, and `settle_batch_shape` shows at start, bit for bit, that a tile's result
depends neither on its place nor on its neighbours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from pyramidai_mpi.base.errors import InputError, PyramidError, machine_failure

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.package import FloatInput, ModelLevel, ModelPackage


class FixedBatchEngine(ABC):
    """One network on one CPU thread, behind a library.

    Parameters
    ----------
    level, package
        What to load.
    batch_shape
        The fixed batch shape; None takes the level's.
    probe
        Whether to run it at once, on a black batch; else to be seen to by `settle_batch_shape`, or, of another rank's
        engine that was, `n_features` to be copied.

    Attributes
    ----------
    backend
        The library.
    precision
        ``float32`` or ``bfloat16``: what it computes floating-point operations in.
    n_features, sees_position
        See `Engine`.

    Raises
    ------
    InputError
        When the library cannot load or run the network, or its output is not probabilities.
    StorageError
        When memory does not suffice to load it.
    """

    backend: ClassVar[str]
    precision: str = "float32"

    def __init__(
        self, level: ModelLevel, package: ModelPackage, batch_shape: int | None = None, *, probe: bool = True
    ) -> None:
        batch_shape = level.batch if batch_shape is None else batch_shape
        self._path = level.onnx_path
        self._n_classes = len(package.classes)
        self._side = package.tile_size
        self._float_input = package.float_input
        self.sees_position = package.sees_position
        self._places = np.zeros((batch_shape, 2), np.float32)
        self._buffer = np.zeros((batch_shape, self._side, self._side, 3), np.uint8)
        try:
            self._n_outputs = self._load(level.onnx_path)
        except Exception as error:  # neither library's exceptions share a public base
            said: PyramidError | None = machine_failure(error)
            if said is None:
                said = InputError(f"{self._path}: {self.backend} cannot load it: {_one_line(error)}")
            raise said from error
        self.n_features = 0
        if probe:
            self.probe(self._buffer[:0], self._places[:0])

    @abstractmethod
    def _load(self, path: Path) -> int:
        """Load the network; return how many outputs it has."""

    def compiled(self) -> bytes:
        """The network ready to run, for other processes of this machine to load; empty if its file does as well."""
        return b""

    @abstractmethod
    def _run_graph(
        self, batch: npt.NDArray[np.generic], positions: npt.NDArray[np.float32], n_wanted: int
    ) -> list[npt.NDArray[np.float32]]:
        """The first `n_wanted` outputs for a whole batch; the arrays are the caller's.

        `positions` are for networks that see them alone.
        """

    @property
    def _input_shape(self) -> tuple[int, ...]:
        """Shape of what `_run_graph` is given."""
        side = self._side
        return (self.batch_shape, side, side, 3) if self._float_input is None else (self.batch_shape, 3, side, side)

    @property
    def batch_shape(self) -> int:
        """See `Engine.batch_shape`."""
        return len(self._buffer)

    def use_batch_shape(self, batch_shape: int) -> None:
        """Change the fixed shape; before the first tile only, or results would depend on when."""
        self._buffer = np.zeros((batch_shape, *self._buffer.shape[1:]), np.uint8)
        self._places = np.zeros((batch_shape, 2), np.float32)

    def predict(
        self, pixels: RgbArray, *, features: bool = False, positions: npt.NDArray[np.float32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """See `Engine.predict`."""
        wanted, step = 2 if features and self.n_features else 1, self.batch_shape
        places = self._places_of(len(pixels), positions)
        parts = [self._run(pixels[i : i + step], places[i : i + step], wanted) for i in range(0, len(pixels), step)]
        if not parts:
            empty = np.empty((0, self._n_classes), np.float32)
            return empty, np.empty((0, self.n_features), np.float32) if wanted == 2 else None
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return columns[0], columns[1] if wanted == 2 else None

    def _places_of(self, n: int, positions: npt.NDArray[np.float32] | None) -> npt.NDArray[np.float32]:
        if not self.sees_position:
            return np.zeros((n, 2), np.float32)
        if positions is None or positions.shape != (n, 2):
            found = "none" if positions is None else str(positions.shape)
            raise ValueError(f"{self._path}: is told where tiles lie, expected positions ({n}, 2), found {found}")
        return positions

    def _run(self, pixels: RgbArray, places: npt.NDArray[np.float32], n_wanted: int) -> list[npt.NDArray[np.float32]]:
        n = len(pixels)
        self._places[:n] = places
        self._places[n:] = 0
        if n == self.batch_shape and pixels.flags.c_contiguous:
            batch = pixels
        else:
            batch = self._buffer
            batch[:n] = pixels
            batch[n:] = 0
        return [output[:n] for output in self._run_whole(batch, n_wanted)]

    def _run_whole(self, batch: RgbArray, n_wanted: int) -> list[npt.NDArray[np.float32]]:
        if not self._n_classes:  # features are its only output
            return [np.empty((len(batch), 0), np.float32), *self._run_graph(batch, self._places, 1)]
        if self._float_input is None:
            return self._run_graph(batch, self._places, n_wanted)
        logits, *rest = self._run_graph(_as_floats(batch, self._float_input), self._places, n_wanted)
        return [_softmax(logits), *rest]

    def check_probabilities(self, values: npt.NDArray[np.float32]) -> None:
        """Raise `InputError` when the network's finite values are no probabilities."""
        finite = values[np.isfinite(values)]
        if finite.size and (finite.min() < 0 or finite.max() > 1):
            raise InputError(
                f"{self._path}: gives values in [{finite.min():.3g}, {finite.max():.3g}], expected probabilities; "
                "add a softmax or sigmoid to the graph"
            )

    def probe(
        self, pixels: RgbArray, positions: npt.NDArray[np.float32] | None = None
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """Like `predict` for fewer tiles than a batch, but with all checks; learns the number of features.

        Raises
        ------
        InputError
            When the library cannot run the network, or what comes out, for the black tiles of the padding too, does
            not fit.
        """
        n = len(pixels)
        self._buffer[:n] = pixels
        self._buffer[n:] = 0
        self._places[:n] = self._places_of(n, positions)
        self._places[n:] = 0
        try:
            outputs = self._run_whole(self._buffer, self._n_outputs)
        except Exception as error:  # neither library's exceptions share a public base
            raise InputError(f"{self._path}: {self.backend} cannot run it: {_one_line(error)}") from error
        expected = (self.batch_shape, self._n_classes)
        if outputs[0].shape != expected:
            raise InputError(f"{self._path}: gives {outputs[0].shape} for a batch, expected {expected}")
        self.check_probabilities(outputs[0])
        if len(outputs) == 1:
            return outputs[0][:n], None
        if outputs[1].ndim != 2 or len(outputs[1]) != self.batch_shape:
            raise InputError(f"{self._path}: gives features of shape {outputs[1].shape}, expected (batch, F)")
        self.n_features = int(outputs[1].shape[1])
        return outputs[0][:n], outputs[1][:n]


def settle_batch_shape(engine: FixedBatchEngine, side: int) -> int:
    """The largest fixed shape, the engine's own or 1, at which results do not depend on the batch, bit for bit.

    Runs the last of some distinct tiles among black ones, then all tiles, then all but the first, one place further
    ahead. So every place is compared with the next, and every tile but the first has other neighbours each time. At
    shape 1 there are no neighbours, so nothing can differ.
    """
    tiles, places = sample_tiles(engine.batch_shape, side), sample_positions(engine.batch_shape)
    alone = engine.probe(tiles[-1:], places[-1:])
    together = engine.predict(tiles, features=True, positions=places)
    engine.check_probabilities(together[0])  # logits may look like probabilities in the first run
    moved = engine.predict(tiles[1:], features=True, positions=places[1:])
    same = all(
        whole is None or (whole[-1:].tobytes() == one.tobytes() and whole[1:].tobytes() == part.tobytes())
        for whole, one, part in zip(together, alone, moved, strict=True)
        if one is not None and part is not None
    )
    return engine.batch_shape if same else 1


def sample_tiles(count: int, side: int) -> RgbArray:
    """Distinct tiles to try a network on, uint8 (count, side, side, 3): smooth gradients under noise.

    White noise alone saturates many networks.
    """
    rng = np.random.Generator(np.random.Philox(20250826))
    ramp = np.linspace(0, 160, side)[None, :, None, None] + np.zeros((count, side, side, 3))
    scale = rng.uniform(0.2, 1.0, (count, 1, 1, 3))
    tiles: RgbArray = (ramp * scale + rng.integers(0, 95, ramp.shape)).astype(np.uint8)
    return tiles


def sample_positions(count: int) -> npt.NDArray[np.float32]:
    """Where such tiles are said to lie, float32 (count, 2), in [0, 1]."""
    return np.random.Generator(np.random.Philox(20250827)).random((count, 2), np.float32)


def _as_floats(pixels: RgbArray, recipe: FloatInput) -> npt.NDArray[np.float32]:
    mean, std = np.array(recipe.mean, np.float32), np.array(recipe.std, np.float32)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
