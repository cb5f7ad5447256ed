"""Networks that windows cannot share are refused, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.models.dense.engine import SharedEngine
from pyramidai_mpi.models.dense.window_graph import UnsharableError
from tests.models.dense_networks import Written, package_of


def squeeze_and_excitation(made: Written, maps: str) -> str:
    weight = made.add("Sigmoid", made.add("Conv", made.add("GlobalAveragePool", maps), made.floats(6, 6, 1, 1)))
    return made.add("Mul", maps, weight)


def place_by_place(made: Written, maps: str) -> str:
    return made.add("Add", maps, made.floats(1, 6, 31, 31))


def attention(made: Written, maps: str) -> str:
    row = made.add("Reshape", maps, np.array([0, 6, 31 * 31], np.int64))
    return made.add("Reshape", row, np.array([0, 6, 31, 31], np.int64))


def normalised(made: Written, maps: str) -> str:
    return made.add("InstanceNormalization", maps, made.floats(6), made.floats(6))


def along_rows(made: Written, maps: str) -> str:
    return made.add("Softmax", maps, axis=3)


def enlarged(made: Written, maps: str) -> str:
    return made.add("ConvTranspose", maps, made.floats(6, 6, 2, 2), strides=[2, 2])


def of_two_strides(made: Written, maps: str) -> str:
    return made.add("MaxPool", maps, kernel_shape=[2, 1], strides=[2, 1])


def of_two_sides(made: Written, maps: str) -> str:
    smaller = made.conv(maps, 6, 6, 3, 2)
    return made.add("Concat", made.add("GlobalMaxPool", maps), made.add("GlobalMaxPool", smaller), axis=1)


def with_noise(made: Written, maps: str) -> str:
    return made.add("Add", maps, made.add("RandomNormal", shape=[1, 6, 1, 1]))


@pytest.mark.parametrize(
    ("step", "reason"),
    [
        (squeeze_and_excitation, "weighs places by what it found in the whole window"),
        (place_by_place, "numbers of its own for each place"),
        (attention, "Reshape turns"),
        (normalised, "InstanceNormalization may look at the whole window"),
        (along_rows, "works along rows or columns"),
        (enlarged, "ConvTranspose may look at the whole window"),
        (of_two_strides, "has strides (2, 1)"),
        (with_noise, "may give something else each time"),
        (of_two_sides, "joins maps of other sides or strides"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_it_is_refused_with_the_reason(tmp_path, step, reason):
    made = Written()
    maps = step(made, made.conv(made.planes(), 3, 6, 3, 2))
    channels = 12 if step is of_two_sides else 6
    row = made.add("Flatten", made.add("GlobalAveragePool", maps))
    logits = made.add("Gemm", row, made.floats(channels, 2))
    path = made.save(tmp_path / "network.onnx", made.add("Softmax", logits), side=64)
    with pytest.raises(UnsharableError) as raised:
        SharedEngine(*package_of(path, 64), 16, 2)
    assert reason in raised.value.reason
    assert str(raised.value).startswith(f"{path}: cannot be shared by overlapping windows: ")
    assert "\n" not in str(raised.value)
