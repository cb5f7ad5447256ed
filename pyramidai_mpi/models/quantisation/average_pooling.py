"""Average pooling written as a convolution, for networks in integers.

onnxruntime's average pooling of bytes is slow: the nine of InceptionV3 take a third of its time in integers, as
convolutions of one channel each nearly nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

if TYPE_CHECKING:
    import onnx

_OF_BOTH = ("kernel_shape", "auto_pad", "dilations", "pads", "strides")


def averages_as_convolutions(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace, in place, each average pooling that equals a convolution of every channel with the same weights.

    That is: windows that all count the same number of values (padding counts, or there is none) and channels whose
    number the graph says. Shapes of inner tensors must have been inferred.
    """
    channels = {
        value.name: value.type.tensor_type.shape.dim[1].dim_value
        for value in [*model.graph.value_info, *model.graph.input]
        if len(value.type.tensor_type.shape.dim) > 1
    }
    for node in model.graph.node:
        if node.op_type != "AveragePool" or not channels.get(node.input[0]):
            continue
        settings: dict[str, Any] = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        if not _counts_alike(settings):
            continue
        window, count = settings["kernel_shape"], channels[node.input[0]]
        weights = np.full((count, 1, *window), 1 / np.prod(window), np.float32)
        name = f"{node.output[0]}.weights"
        model.graph.initializer.append(numpy_helper.from_array(weights, name))
        node.op_type = "Conv"
        node.input.append(name)
        settings = {"group": count} | {key: settings[key] for key in _OF_BOTH if key in settings}
        del node.attribute[:]
        for key, value in settings.items():
            node.attribute.append(helper.make_attribute(key, value))
    return model


def _counts_alike(settings: dict[str, Any]) -> bool:
    padded = any(settings.get("pads", [0])) or settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID")
    return not settings.get("ceil_mode", 0) and bool(settings.get("count_include_pad", 0) or not padded)
