"""Total stride and halo are found by trial; networks that look at the whole image are refused with the reason."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.training.whole.architectures import new_whole_network
from pyramidai_mpi.training.whole.field import Field, field_of
from pyramidai_mpi.training.whole.unet import WholeImageUNet


def between(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), *layers, nn.Conv2d(4, 1, 1))


@pytest.mark.parametrize(
    ("network", "stride", "halo"),
    [
        (WholeImageUNet(), 32, 128),
        (nn.Conv2d(1, 1, 1), 1, 0),
        (between(), 1, 1),
        (between(nn.ReLU(), nn.Conv2d(4, 4, 7, padding=6, dilation=2)), 1, 7),
        (nn.Sequential(nn.Conv2d(1, 5, 3, 5, 1), nn.Upsample(scale_factor=5), nn.Conv2d(5, 1, 1)), 5, 5),
        (between(nn.MaxPool2d(4), nn.Conv2d(4, 4, 3, padding=1), nn.Upsample(scale_factor=4)), 4, 8),
    ],
    ids=["unet", "1x1", "3x3", "dilated", "stride 5", "pooled"],
)
def test_a_networks_stride_and_halo_are_those_of_its_layers(network, stride, halo) -> None:
    assert field_of(network, "mine") == Field(stride, halo)


class Attended(nn.Module):
    """Each pixel weighs all others."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        rows = image[:, 0].flatten(1)
        weights = torch.softmax(rows, dim=1)
        return image * (weights * rows).sum()


class Squeezed(nn.Module):
    """Channels are weighted by their mean over the image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * torch.sigmoid(image.mean((2, 3), keepdim=True))


class Placed(nn.Module):
    """Depends on where a pixel lies."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * torch.arange(image.shape[-1], dtype=image.dtype)


class Drawn(nn.Module):
    """Adds noise."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + 1e-3 * torch.rand_like(image)


@pytest.mark.parametrize(
    ("network", "reason"),
    [
        (between(nn.GroupNorm(2, 4)), r"depends on pixels 2048 and more away \(it has GroupNorm at '1'\)"),
        (between(nn.InstanceNorm2d(4)), "it has InstanceNorm2d at '1'"),
        (between(Squeezed()), "depends on pixels 2048 and more away: it has a layer over the whole image"),
        (between(Attended()), "depends on pixels 2048 and more away"),
        (between(nn.BatchNorm2d(4)), "BatchNorm2d at '1': its statistics are of the whole batch"),
        (between(nn.Dropout2d(0.2)), "Dropout2d at '1': it would drop other values"),
        (between(Placed()), "found no total stride"),
        (between(Drawn()), "gives another answer when asked again"),
        (nn.Conv2d(1, 1, 3), "a logit for each pixel"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1)), "a logit for each pixel"),
    ],
    ids=[
        "group norm",
        "instance norm",
        "squeezed",
        "attended",
        "batch norm",
        "dropout",
        "placed",
        "drawn",
        "valid",
        "two channels",
    ],
)
def test_what_cannot_be_cut_is_refused_with_the_reason(network, reason) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        field_of(network, "mine:net")
    assert str(caught.value).startswith("--network mine:net: ")
    assert "\n" not in str(caught.value)


def test_a_network_of_the_users_own_is_called_by_its_name(tmp_path, monkeypatch) -> None:
    (tmp_path / "nets_of_mine.py").write_text(
        "from torch import nn\ndef new(): return nn.Conv2d(1, 1, 5, padding=2)\n"
        "def broken(): raise OSError('no file')\ndef number(): return 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    network, field = new_whole_network("nets_of_mine:new", 4)
    assert field == Field(1, 2)
    assert torch.equal(network.weight, new_whole_network("nets_of_mine:new", 4)[0].weight)
    assert not torch.equal(network.weight, new_whole_network("nets_of_mine:new", 5)[0].weight)
    for name, says in (
        ("nets_of_mine:broken", "OSError: no file"),
        ("nets_of_mine:none", "AttributeError"),
        ("nets_of_yours:new", "ModuleNotFoundError.*PYTHONPATH"),
        ("nets_of_mine:number", "gives int, expected a torch.nn.Module"),
        ("resnet", "no such network; give unet, contrast, or MODULE:FUNCTION"),
    ):
        with pytest.raises(UsageError, match=says):
            new_whole_network(name, 0)
