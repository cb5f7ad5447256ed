"""A block of windows in one pass gives what each window gives by itself in plain onnxruntime."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.models.dense.block_graphs import cost_of_block, cost_of_window
from pyramidai_mpi.models.dense.engine import SharedEngine
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.package import FloatInput, load_package
from tests.models.dense_networks import Written, by_window, package_of, region_of, valid_network
from tests.packages import write_package

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("networks")


@pytest.fixture(scope="module")
def valid(folder):
    """A network without padding, of stride 32, on windows of 224 px."""
    return valid_network(folder / "valid.onnx")


def differs(path, stride: int, block: int, side: int = 224, seed: int = 0) -> tuple[float, float]:
    """Largest difference from windows by themselves, and how much the scores of the windows differ."""
    engine = SharedEngine(*package_of(path, side), stride, block)
    region = region_of(engine.region, seed)
    found, expected = engine.predict(region), by_window(path, region, side, stride, block)
    assert found.shape == (block, block, 2)
    assert found.dtype == np.float32
    return float(np.abs(found - expected).max()), float(np.ptp(expected[..., 1]))


@pytest.mark.parametrize("block", [2, 5])
@pytest.mark.parametrize("stride", [8, 16, 24, 32, 50, 64, 112, 224])
def test_windows_together_give_what_each_gives_by_itself(valid, stride, block):
    difference, spread = differs(valid, stride, block)
    assert difference < TOLERANCE
    assert spread > 0.01  # or nothing was compared


def test_a_single_window_is_a_block_too(valid):
    assert differs(valid, 16, 1)[0] < TOLERANCE


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 24])
def test_any_stride_fits_any_strides_of_layers(folder, stride):
    """Strides 2, 3 and 2: phases of 2, 6 and 12, and strides that divide none of these."""
    path = valid_network(folder / "of-12.onnx", layers=((6, 3, 2), (6, 3, 3), (8, 3, 2)), side=64)
    for block in (3, 4):
        assert differs(path, stride, block, 64)[0] < TOLERANCE


def test_a_stride_inside_one_layers_stride_takes_some_of_its_phases(folder):
    path = valid_network(folder / "of-8.onnx", layers=((6, 8, 4), (8, 3, 2)), side=64)
    for stride in (2, 4, 6, 12):
        difference, spread = differs(path, stride, 4, 64)
        assert difference < TOLERANCE
        assert spread > 1e-3


def test_the_same_region_has_the_same_bits(valid):
    first, second = (SharedEngine(*package_of(valid), 16, 4) for _ in range(2))
    region = region_of(first.region)
    expected = first.predict(region).tobytes()
    first.predict(region_of(first.region, seed=1))
    assert first.predict(region).tobytes() == expected
    assert second.predict(region).tobytes() == expected
    given = SharedEngine(*package_of(valid), 16, 4, graphs=first.graphs)
    assert given.predict(region).tobytes() == expected


@pytest.mark.parametrize("stride", [16, 112])
def test_blocks_of_two_sizes_agree(valid, stride):
    large, small = (SharedEngine(*package_of(valid), stride, block) for block in (6, 3))
    region = region_of(large.region)
    whole = large.predict(region)
    corners = (0, 3 * stride)
    parts = [[small.predict(region[y : y + small.region, x : x + small.region]) for x in corners] for y in corners]
    joined = np.concatenate([np.concatenate(row, axis=1) for row in parts])
    assert np.abs(whole - joined).max() < TOLERANCE


def test_a_region_of_another_size_is_a_bug(valid):
    engine = SharedEngine(*package_of(valid), 32, 2)
    with pytest.raises(InternalError, match="region"):
        engine.predict(np.zeros((engine.region - 1, engine.region, 3), np.uint8))


def test_multiplications_are_those_counted_by_hand(folder):
    """Two convolutions, the mean of 4 x 4 and a linear layer, on windows of 16 pixels."""
    path = valid_network(folder / "counted.onnx", layers=((4, 3, 1), (6, 3, 3)), side=16)
    head = 6 * (4 * 4 + 4) + 6 * 2  # rows, then the column of what they gave; 6 channels to 2 classes
    assert cost_of_window(*package_of(path, 16)) == 14 * 14 * 4 * 27 + 4 * 4 * 6 * 36 + head
    # 3 windows, 3 px apart: maps of 20 and 6 places; the mean at 6 x 3 places, then at 3 x 3
    shared = 20 * 20 * 4 * 27 + 6 * 6 * 6 * 36 + 6 * 4 * (6 * 3 + 3 * 3) + 9 * 6 * 2
    assert SharedEngine(*package_of(path, 16), 3, 3).cost == shared
    assert cost_of_block(*package_of(path, 16), 3, 3) == shared


def test_phases_are_taken_where_they_come_apart(valid):
    """At stride 16 of a network of 32, all but the last strided convolution is computed once, not four times."""
    engine = SharedEngine(*package_of(valid), 16, 8)
    graph = onnx.load_from_string(engine.graphs.trunk.data).graph
    first_slice = next(n for n, node in enumerate(graph.node) if node.op_type == "Slice")
    assert [node.op_type for node in graph.node[:first_slice]].count("Conv") == 4
    assert [node.op_type for node in graph.node[first_slice:]].count("Conv") == 2  # the last, and the linear layer
    one = cost_of_window(*package_of(valid))
    assert engine.cost * 12 < one * 64


def test_windows_that_do_not_overlap_are_not_computed_together(valid):
    engine = SharedEngine(*package_of(valid), 224, 3)
    assert engine.graphs.shared_layers == 0
    assert engine.cost == 9 * cost_of_window(*package_of(valid))


@pytest.mark.parametrize("stride", [8, 16, 50, 112])
def test_it_never_costs_more_than_windows_by_themselves(valid, stride):
    for block in (1, 2, 7):
        assert SharedEngine(*package_of(valid), stride, block).cost <= block**2 * cost_of_window(*package_of(valid))


def test_branches_of_other_strides_are_joined_phase_by_phase(folder):
    """One branch of stride 4, one of 2 and 2: the same phases in another order."""
    made = Written()
    maps = made.conv(made.planes(), 3, 6, 3)
    long = made.conv(maps, 6, 8, 4, 4)
    short = made.conv(made.conv(maps, 6, 8, 2, 2), 8, 8, 2, 2)
    joined = made.add("Concat", long, made.add("Add", long, short), axis=1)
    pooled = made.add("ReduceMean", joined, axes=[2, 3], keepdims=0)
    logits = made.add("Add", made.add("MatMul", pooled, made.floats(16, 2)), made.floats(2))
    path = made.save(folder / "branches.onnx", made.add("Softmax", logits, axis=-1), side=66)
    for stride in (1, 2, 4):
        difference, spread = differs(path, stride, 4, 66)
        assert difference < TOLERANCE
        assert spread > 1e-4


def test_rows_and_columns_apart_cropped_branches_and_two_ways_of_pooling(folder):
    """1 x 5 then 5 x 1, beside 3 x 3 cropped to the same size, then the mean and the maximum; a sigmoid."""
    made = Written()
    maps = made.conv(made.planes(), 3, 6, 3, 2)
    apart = made.conv(made.conv(maps, 6, 6, (1, 5)), 6, 8, (5, 1))
    square = made.conv(maps, 6, 8, 3)
    bounds = [np.array(values, np.int64) for values in ([1, 1], [-1, 1000], [2, 3], [1, 1])]
    square = made.add("Slice", square, *bounds)
    square = made.add("Slice", square, *(np.array(values, np.int64) for values in ([0], [-1], [3])))
    maps = made.add("MaxPool", made.add("Add", apart, square), kernel_shape=[3, 3], strides=[2, 2])
    both = made.add("Concat", made.add("GlobalAveragePool", maps), made.add("GlobalMaxPool", maps), axis=1)
    row = made.add("Reshape", both, np.array([0, -1], np.int64))
    hidden = made.add("Relu", made.add("Gemm", row, made.floats(16, 10, scale=0.3), made.floats(10)))
    score = made.add("Sigmoid", made.add("Gemm", hidden, made.floats(1, 10, scale=0.3), made.floats(1), transB=1))
    answer = made.add("Concat", made.add("Sub", np.float32(1), score), score, axis=1)
    path = made.save(folder / "apart.onnx", answer, side=65)
    for stride in (2, 4, 8, 6):
        difference, spread = differs(path, stride, 4, 65)
        assert difference < TOLERANCE
        assert spread > 1e-3


def test_a_head_of_convolutions_and_one_over_all_places(folder):
    made = Written()
    maps = made.conv(made.conv(made.planes(), 3, 6, 5, 4), 6, 8, 3, 2)
    wide = made.conv(maps, 8, 10, 6)  # as wide as the maps of a window of 61: 13, and 6 of 6
    row = made.add("Flatten", wide)
    first = made.save(folder / "wide.onnx", made.add("Softmax", made.add("MatMul", row, made.floats(10, 2))), side=59)
    assert onnx.load(first).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 2
    made = Written()
    maps = made.conv(made.conv(made.planes(), 3, 6, 5, 4), 6, 8, 3, 2)
    row = made.add("Flatten", maps)
    weights = made.floats(8 * 36, 2, scale=0.1)
    second = made.save(folder / "all.onnx", made.add("Softmax", made.add("MatMul", row, weights)), side=59)
    for path in (first, second):
        for stride in (2, 8, 16):
            difference, spread = differs(path, stride, 4, 59)
            assert difference < TOLERANCE
            assert spread > 1e-3


def test_batch_norm_and_shapes_computed_within_the_graph(folder):
    made = Written()
    maps = made.add("Conv", made.planes(), made.floats(6, 3, 5, 5, scale=0.1), strides=[2, 2])
    scale, mean = np.full(6, 0.5, np.float32), made.floats(6)
    maps = made.add("BatchNormalization", maps, scale, made.floats(6), mean, np.full(6, 2, np.float32))
    pooled = made.add("AveragePool", made.add("Clip", maps, np.float32(0), np.float32(6)), kernel_shape=[30, 30])
    batch = made.add("Gather", made.add("Shape", pooled), np.array([0], np.int64), axis=0)
    row = made.add("Reshape", pooled, made.add("Concat", batch, np.array([6], np.int64), axis=0))
    logits = made.add("Gemm", row, made.floats(6, 2), alpha=0.5, beta=2.0)
    path = made.save(folder / "shapes.onnx", made.add("Softmax", logits), side=64)
    for stride in (1, 2, 8):
        assert differs(path, stride, 3, 64)[0] < TOLERANCE


def test_adaptive_pooling_as_torch_writes_it(folder):
    """The mean, laid out in one row with all windows, then taken value by value by places counted from the batch."""
    made = Written()
    maps = made.conv(made.planes(), 3, 6, 5, 2)
    row = made.add("Reshape", made.add("ReduceMean", maps, axes=[-1, -2], keepdims=1), np.array([-1], np.int64))
    windows = made.add("Squeeze", made.add("Slice", made.add("Shape", maps), *np.array([[0], [1]], np.int64)))
    first = made.add("Mul", made.add("Range", np.int64(0), windows, np.int64(1)), np.int64(6))
    first = made.add("Unsqueeze", first, np.array([1, 2, 3], np.int64))
    places = made.add("Add", first, np.arange(6).reshape(1, 6, 1, 1))
    mean = made.add("Gather", row, places, axis=0)
    logits = made.add("Flatten", made.add("Conv", mean, made.floats(2, 6, 1, 1), made.floats(2)))
    path = made.save(folder / "adaptive.onnx", made.add("Softmax", logits, axis=1), side=61)
    for stride in (1, 4):
        difference, spread = differs(path, stride, 4, 61)
        assert difference < TOLERANCE
        assert spread > 1e-4


def test_an_older_graph_is_brought_up_to_date(folder):
    """Of opset 11, where a softmax runs over all axes behind the one it names."""
    made = Written()
    maps = made.conv(made.planes(), 3, 6, 5, 4)
    row = made.add("Flatten", made.add("GlobalAveragePool", maps))
    answer = made.add("Softmax", made.add("Gemm", row, made.floats(6, 2), made.floats(2)), axis=1)
    path = made.save(folder / "older.onnx", answer, side=61, opset=11)
    assert differs(path, 2, 4, 61)[0] < TOLERANCE


def test_networks_that_take_floats_and_give_logits(folder):
    recipe = FloatInput((0.5, 0.4, 0.6), (0.2, 0.3, 0.25))
    made = Written()
    maps = made.conv(made.conv("pixels", 3, 6, 5, 4), 6, 8, 3, 2)
    row = made.add("Flatten", made.add("GlobalAveragePool", maps))
    path = made.save(folder / "floats.onnx", made.add("Gemm", row, made.floats(8, 2)), side=59, floats=True)
    level, package = package_of(path, 59, recipe)
    engine = SharedEngine(level, package, 4, 3)
    region = region_of(engine.region)
    windows = np.stack([region[y : y + 59, x : x + 59] for y in (0, 4, 8) for x in (0, 4, 8)])
    expected = OnnxEngine(level, package).predict(windows)[0].reshape(3, 3, 2)
    assert np.abs(engine.predict(region) - expected).max() < TOLERANCE
    assert np.ptp(expected) > 0.01


def test_a_network_in_integers_keeps_its_integers(folder):
    """Weights as bytes, values between the layers as bytes: the shared pass computes them in integers, too."""
    made = Written()
    maps = made.planes()
    for channels, out in ((3, 6), (6, 8)):
        zero = np.uint8(0)
        step = np.float32(0.05)
        maps = made.add("DequantizeLinear", made.add("QuantizeLinear", maps, step, zero), step, zero)
        weights = made.rng.integers(-127, 127, (out, channels, 3, 3)).astype(np.int8)
        scale = made.rng.uniform(0.001, 0.004, out).astype(np.float32)
        weights = made.add("DequantizeLinear", weights, scale, np.zeros(out, np.int8), axis=0)
        maps = made.add("Relu", made.add("Conv", maps, weights, made.floats(out, scale=0.1), strides=[2, 2]))
    row = made.add("Flatten", made.add("GlobalAveragePool", maps))
    path = made.save(folder / "int8.onnx", made.add("Softmax", made.add("Gemm", row, made.floats(8, 2))), side=63)
    engine = SharedEngine(*package_of(path, 63), 2, 4)
    kinds = [node.op_type for node in onnx.load_from_string(engine.graphs.trunk.data).graph.node]
    assert kinds.count("DequantizeLinear") == 4
    difference, spread = differs(path, 2, 4, 63)
    assert difference < TOLERANCE
    assert spread > 1e-3


def test_a_network_that_pads_is_computed_as_asked_and_is_another(folder):
    path = valid_network(folder / "pads.onnx", pads=True)
    difference, _ = differs(path, 16, 4)
    assert difference > 1e-3


def test_the_mean_colour_of_a_window(tmp_path):
    """Pooling in the order NHWC, without any convolution."""
    package = load_package(write_package(tmp_path / "colour"))
    for stride in (16, 32):
        engine = SharedEngine(package.levels[0], package, stride, 4)
        region = region_of(engine.region)
        expected = by_window(package.levels[0].onnx_path, region, 64, stride, 4)
        assert np.abs(engine.predict(region) - expected).max() < TOLERANCE


def test_a_value_that_is_no_number_stays_with_the_windows_that_see_it(folder):
    """An answer of NaN for one window is none for its neighbours that do not see the place."""
    made = Written()
    maps = made.add("Log", made.planes())  # of a negative value: not a number
    maps = made.add("Conv", maps, made.floats(4, 3, 3, 3, scale=0.1), strides=[2, 2])
    row = made.add("Flatten", made.add("GlobalAveragePool", maps))
    path = made.save(folder / "log.onnx", made.add("Softmax", made.add("Gemm", row, made.floats(4, 2))), side=33)
    engine = SharedEngine(*package_of(path, 33), 32, 3)
    region = np.full((engine.region, engine.region, 3), 250, np.uint8)
    region[40, 40] = 0  # seen by the window in the middle alone
    found = np.isnan(engine.predict(region)).any(axis=2)
    expected = np.isnan(by_window(path, region, 33, 32, 3)).any(axis=2)
    assert found.tolist() == expected.tolist()
    assert expected.sum() == 1


def test_the_graph_is_plain_onnx(valid):
    trunk = onnx.load_from_string(SharedEngine(*package_of(valid), 16, 4).graphs.trunk.data)
    onnx.checker.check_model(trunk, full_check=True)
    assert {entry.domain for entry in trunk.opset_import} == {""}
    (pixels,) = trunk.graph.input
    assert pixels.type == helper.make_tensor_type_proto(TensorProto.UINT8, [1, 272, 272, 3])


def test_who_is_given_graphs_does_without_onnx():
    program = "import sys, pyramidai_mpi.models.dense.engine; print(*({'onnx', 'onnxruntime'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.split() == ["onnxruntime"]
