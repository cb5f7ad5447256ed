"""The gate to onnxruntime: the only module that imports it.

Matrix kernels round differently by batch shape, and may by place in the batch. So a network is only ever run with one
fixed batch shape, short batches padded, and `settle_batch_shape` shows at start, bit for bit, that a tile's result
depends neither on its place nor on its neighbours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnxruntime

from pyramidai_mpi.errors import InputError

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.inference.package import FloatInput, ModelLevel, ModelPackage
    from pyramidai_mpi.types import RgbArray

# The shipped networks run 1036 tiles/s at 4, 1031 at 1 and 939 at 8 on one core; a larger shape pads more in vain when
# batches get short.
BATCH_SHAPE = 4


class OnnxEngine:
    """One network in onnxruntime on one CPU thread that never spins.

    Parameters
    ----------
    level, package
        What to load.
    batch_shape
        The fixed batch shape.

    Raises
    ------
    InputError
        When onnxruntime cannot load or run the network, or its output is not probabilities.
    """

    def __init__(self, level: ModelLevel, package: ModelPackage, batch_shape: int = BATCH_SHAPE) -> None:
        self._path = level.onnx_path
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                str(level.onnx_path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise InputError(f"{self._path}: onnxruntime cannot load it: {_one_line(error)}") from error
        self._input = self._session.get_inputs()[0].name
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._n_classes = len(package.classes)
        self._side = package.tile_size
        self._float_input = package.float_input
        self._buffer = np.zeros((batch_shape, self._side, self._side, 3), np.uint8)
        self.n_features = self._probe()

    @property
    def batch_shape(self) -> int:
        """See `Engine.batch_shape`."""
        return len(self._buffer)

    def use_batch_shape(self, batch_shape: int) -> None:
        """Change the fixed shape; before the first tile only, or results would depend on when."""
        self._buffer = np.zeros((batch_shape, *self._buffer.shape[1:]), np.uint8)

    def predict(
        self, pixels: RgbArray, *, features: bool = False
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32] | None]:
        """See `Engine.predict`."""
        wanted = self._outputs if features and self.n_features else self._outputs[:1]
        parts = [self._run(pixels[i : i + self.batch_shape], wanted) for i in range(0, len(pixels), self.batch_shape)]
        if not parts:
            empty = np.empty((0, self._n_classes), np.float32)
            return empty, np.empty((0, self.n_features), np.float32) if len(wanted) == 2 else None
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        return columns[0], columns[1] if len(wanted) == 2 else None

    def _run(self, pixels: RgbArray, wanted: list[str]) -> list[npt.NDArray[np.float32]]:
        n = len(pixels)
        if n == self.batch_shape and pixels.flags.c_contiguous:
            batch = pixels
        else:
            batch = self._buffer
            batch[:n] = pixels
            batch[n:] = 0
        return [output[:n] for output in self._run_whole(wanted, batch)]

    def _run_whole(self, wanted: list[str], batch: RgbArray) -> list[npt.NDArray[np.float32]]:
        if self._float_input is None:
            found: list[npt.NDArray[np.float32]] = self._session.run(wanted, {self._input: batch})
            return found
        logits, *rest = self._session.run(wanted, {self._input: _as_floats(batch, self._float_input)})
        return [_softmax(logits), *rest]

    def check_probabilities(self, values: npt.NDArray[np.float32]) -> None:
        """Raise `InputError` when the network's finite values are no probabilities."""
        finite = values[np.isfinite(values)]
        if finite.size and (finite.min() < 0 or finite.max() > 1):
            raise InputError(
                f"{self._path}: gives values in [{finite.min():.3g}, {finite.max():.3g}], expected probabilities; "
                "add a softmax or sigmoid to the graph"
            )

    def _probe(self) -> int:
        """Run once; check what comes out; return the number of features."""
        try:
            outputs = self._run_whole(self._outputs, self._buffer)
        except Exception as error:  # onnxruntime's exceptions share no public base
            raise InputError(f"{self._path}: onnxruntime cannot run it: {_one_line(error)}") from error
        expected = (self.batch_shape, self._n_classes)
        if outputs[0].shape != expected:
            raise InputError(f"{self._path}: gives {outputs[0].shape} for a batch, expected {expected}")
        self.check_probabilities(outputs[0])
        if len(outputs) == 1:
            return 0
        if outputs[1].ndim != 2 or len(outputs[1]) != self.batch_shape:
            raise InputError(f"{self._path}: gives features of shape {outputs[1].shape}, expected (batch, F)")
        return int(outputs[1].shape[1])


def settle_batch_shape(engine: OnnxEngine, side: int) -> int:
    """The largest fixed shape, the engine's own or 1, at which results do not depend on the batch, bit for bit.

    Runs a batch of distinct tiles, the same tiles in reverse order, and each half of them alone, padded. At shape 1
    there are no neighbours, so nothing can differ.
    """
    rng = np.random.Generator(np.random.Philox(20250826))
    # smooth gradients under noise: white noise alone saturates many networks
    ramp = np.linspace(0, 160, side)[None, :, None, None] + np.zeros((engine.batch_shape, side, side, 3))
    scale = rng.uniform(0.2, 1.0, (engine.batch_shape, 1, 1, 3))
    tiles = (ramp * scale + rng.integers(0, 95, ramp.shape)).astype(np.uint8)
    together, together_features = engine.predict(tiles, features=True)
    engine.check_probabilities(together)  # logits may look like probabilities on the black tiles of the first run
    backwards, backwards_features = engine.predict(np.ascontiguousarray(tiles[::-1]), features=True)
    half = engine.batch_shape // 2
    alone = np.concatenate([engine.predict(part)[0] for part in (tiles[half:], tiles[:half])])
    same = (
        together.tobytes() == backwards[::-1].tobytes()
        and together.tobytes() == np.concatenate([alone[len(tiles) - half :], alone[: len(tiles) - half]]).tobytes()
        and (
            together_features is None
            or backwards_features is None
            or together_features.tobytes() == backwards_features[::-1].tobytes()
        )
    )
    return engine.batch_shape if same else 1


def _as_floats(pixels: RgbArray, recipe: FloatInput) -> npt.NDArray[np.float32]:
    mean, std = np.array(recipe.mean, np.float32), np.array(recipe.std, np.float32)
    scaled = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))


def _softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    exponent = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=1, keepdims=True))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
