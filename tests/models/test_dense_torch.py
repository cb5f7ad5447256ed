"""Networks as torch exports them, by its old exporter and its new one, shared by windows."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest

from pyramidai_mpi.models.dense.engine import SharedEngine
from tests.models.dense_networks import by_window, package_of, region_of

torch = pytest.importorskip("torch")
nn = torch.nn
SIDE = 65


def block(channels: int, out: int, kernel: int | tuple[int, int], stride: int = 1):
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride), nn.BatchNorm2d(out), nn.ReLU())


class Branches(nn.Module):
    """Batch norms that are not folded, cropped branches, a skipped connection; a head of one's choice."""

    def __init__(self, head: str) -> None:
        super().__init__()
        self.kind = head
        self.first = block(3, 8, 3, 2)
        self.rows_then_columns = nn.Sequential(block(8, 6, (1, 5)), block(6, 6, (5, 1)))
        self.square = block(8, 6, 3)
        self.narrow, self.pool = block(12, 12, 3, 2), nn.MaxPool2d(3, 2)
        self.linear = nn.Linear(48, 2)
        self.point = nn.Conv2d(24, 2, 1)
        self.whole = nn.Linear(24 * 13 * 13, 2)

    def forward(self, tiles):
        maps = self.first(tiles.permute(0, 3, 1, 2).float() / 64 - 2)
        maps = torch.cat([self.rows_then_columns(maps), self.square(maps)[:, :, 1:-1, 1:-1]], 1)
        maps = torch.cat([self.narrow(maps), self.pool(maps)], 1)
        maps = maps + maps.clamp(0, 1)
        if self.kind == "mean and maximum":
            return torch.softmax(self.linear(torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], 1)), -1)
        if self.kind == "adaptive pooling":
            score = torch.sigmoid(self.point(nn.functional.adaptive_avg_pool2d(maps, 1)).flatten(1)[:, :1])
            return torch.cat([1 - score, score], 1)
        return torch.softmax(self.whole(maps.flatten(1)), 1)


@pytest.mark.parametrize("new_exporter", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["old", "new"])
@pytest.mark.parametrize("head", ["mean and maximum", "adaptive pooling", "all places"])
def test_what_torch_exports_is_shared(tmp_path, head, new_exporter):
    torch.manual_seed(0)
    network = Branches(head)
    pixels = np.stack([region_of(SIDE, seed) for seed in range(4)])
    with torch.no_grad():
        network(torch.from_numpy(pixels))  # statistics for its batch norms
    network.eval()
    path = tmp_path / "network.onnx"
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    batch = (
        {"dynamic_shapes": {"tiles": {0: torch.export.Dim("batch", min=1, max=64)}}, "external_data": False}
        if new_exporter
        else {"dynamic_axes": {"tiles": {0: "batch"}, "answer": {0: "batch"}}}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.from_numpy(pixels[:2]),), path, input_names=["tiles"], output_names=["answer"],
            dynamo=new_exporter, opset_version=18 if new_exporter else 17, verbose=False, **batch,
        )  # fmt: skip
    for stride in (2, 4, 6):
        engine = SharedEngine(*package_of(path, SIDE), stride, 4)
        region = region_of(engine.region)
        expected = by_window(path, region, SIDE, stride, 4)
        assert np.abs(engine.predict(region) - expected).max() < 1e-5
        assert np.ptp(expected[..., 1]) > 1e-3
