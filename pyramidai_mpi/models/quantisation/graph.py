"""A network in 8-bit integers: static quantisation by onnxruntime, calibrated on tiles."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from pyramidai_mpi.base.errors import InputError, StorageError, machine_failure
from pyramidai_mpi.models.package import POSITION
from pyramidai_mpi.models.quantisation.average_pooling import averages_as_convolutions
from pyramidai_mpi.models.quantisation.transformer import DENSE_LAYERS, dense_layers, evened

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy.typing as npt

    from pyramidai_mpi.models.engines.base import SeenTiles

_INTEGER_OPERATORS = ["Conv", "Relu", "MaxPool", "AveragePool", "Concat", "Add", "Mul"]
"""What is computed in integers. The layers after the last convolution cost nothing and decide the last digits of a
probability, so they stay in float32. Relu is named so that it becomes the lower end of its convolution's range: left
out, it stands between two conversions to and from float32, a tenth of InceptionV3's time."""
_ROOT_LOGGER = logging.getLogger()


def _feeds(name: str, tiles: SeenTiles, *, sees_position: bool) -> list[dict[str, npt.NDArray[Any]]]:
    """What a graph is given of tiles, one by one."""
    inputs: dict[str, npt.NDArray[Any]] = {name: tiles.pixels}
    if sees_position:
        inputs[POSITION] = tiles.positions
    return [{key: values[n : n + 1] for key, values in inputs.items()} for n in range(len(tiles.pixels))]


class _Tiles(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, feeds: Iterable[dict[str, npt.NDArray[Any]]]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._feeds, None)


def quantised_graph(path: Path, input_name: str, tiles: SeenTiles, *, sees_position: bool = False) -> bytes:
    """Serialise a network with its convolutions in integers: weights int8 per channel, activations uint8 (QDQ).

    Of a transformer it is the products with stored weights (see `transformer`).

    Parameters
    ----------
    path
        File of the network, in float32, with uint8 NHWC as its input.
    input_name
        Name of the graph's input of pixels.
    tiles
        The range of each activation is that seen on them.
    sees_position
        Whether the graph is told where they lie.

    Raises
    ------
    InputError
        When onnxruntime cannot quantise the network.
    StorageError
        When the machine fails, such as the folder for temporary files.
    """
    level = _ROOT_LOGGER.level
    # it advises the preparation that was just done, and prints the trace of a disk that is full
    _ROOT_LOGGER.setLevel(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory() as folder:
            prepared, done = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            model, feeds = onnx.load(prepared), _feeds(input_name, tiles, sees_position=sees_position)
            layers = dense_layers(model)
            onnx.save(evened(model, feeds) if layers else averages_as_convolutions(model), prepared)
            quantize_static(
                str(prepared),
                str(done),
                _Tiles(feeds),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(DENSE_LAYERS) if layers else _INTEGER_OPERATORS,
                nodes_to_quantize=layers or None,
                extra_options={"OpTypesToExcludeOutputQuantization": list(DENSE_LAYERS)} if layers else None,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
            )
            return _without_unused_domains(done)
    except Exception as error:  # onnxruntime's exceptions share no public base
        failure = machine_failure(error)
        if failure is not None:
            raise StorageError(
                f"{path}: cannot be quantised in {tempfile.gettempdir()}: {failure}; TMPDIR names another folder"
            ) from error
        raise InputError(f"{path}: cannot be quantised: {' '.join(str(error).split())[:300]}") from error
    finally:
        _ROOT_LOGGER.setLevel(level)


def _without_unused_domains(path: Path) -> bytes:
    """The graph without the operator sets that the quantiser declares and does not use."""
    model = onnx.load(path)
    used = {node.domain for node in model.graph.node}
    kept = [entry for entry in model.opset_import if entry.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    return bytes(model.SerializeToString())
