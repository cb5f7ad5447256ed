"""Networks of timm to train: ResNets, DenseNet121, Inception-ResNet v2, with random weights or those of a file.

ResNet: He et al., CVPR 2016. DenseNet: Huang et al., CVPR 2017. Inception-ResNet v2: Szegedy et al., AAAI 2017. Layers
and names are timm's; torchvision has the same names for those that it has, so weights of either load as they are.
Nothing is fetched.
"""

from __future__ import annotations

import re
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import torch

from pyramidai_mpi.training.convert.state_file import start_from
from pyramidai_mpi.training.convert.timm_gate import timm
from pyramidai_mpi.training.networks.tile_network import TileNetwork

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

_RESNET = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
_STAGES: dict[str, tuple[tuple[str, ...], ...]] = {
    "resnet18": _RESNET,
    "resnet50": _RESNET,
    "resnet101": _RESNET,
    "densenet121": (
        ("features.conv0", "features.norm0"),
        ("features.denseblock1", "features.transition1"),
        ("features.denseblock2", "features.transition2"),
        ("features.denseblock3", "features.transition3"),
        ("features.denseblock4", "features.norm5"),
    ),
    "inception_resnet_v2": (
        ("conv2d_1a", "conv2d_2a", "conv2d_2b"),
        ("conv2d_3b", "conv2d_4a"),
        ("mixed_5b", "repeat"),
        ("mixed_6a", "repeat_1"),
        ("mixed_7a", "repeat_2", "block8", "conv2d_7b"),
    ),
}
_OLD_DENSE_NAME = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Of torchvision's published DenseNets, whose files are older than its names."""


class TimmTiles(TileNetwork):
    """A network of timm with one logit.

    Input uint8 (B, T, T, 3), RGB; normalised by the mean and standard deviation that timm names. Features float32
    (B, F) are the pooled last maps.

    Parameters
    ----------
    name
        One of those with known stages.
    """

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        network: Any = timm.create_model(name, pretrained=False, num_classes=1)
        config = timm.data.resolve_model_data_config(network)
        mean, std = (torch.tensor(config[key], dtype=torch.float64).reshape(1, 3, 1, 1) for key in ("mean", "std"))
        self.network: Any = network
        self.n_features = int(network.num_features)
        self.head_name = f"{network.pretrained_cfg['classifier']}."
        self._stage_names = _STAGES[name]
        # computed anew each time, so no part of the weights
        self.register_buffer("scale", (1 / (255 * std)).float(), persistent=False)
        self.register_buffer("shift", (-mean / std).float(), persistent=False)

    def features(self, tiles: torch.Tensor) -> torch.Tensor:
        """Pooled maps, float32 (B, F)."""
        maps = self.network.forward_features(tiles.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift)
        pooled: torch.Tensor = self.network.forward_head(maps, pre_logits=True)
        return pooled

    def logit(self, features: torch.Tensor) -> torch.Tensor:
        """Log-odds of tumour, float32 (B, 1)."""
        odds: torch.Tensor = self.network.get_classifier()(features)
        return odds

    def stages(self) -> list[list[nn.Module]]:
        """Five, by the size of their maps."""
        return [[attrgetter(name)(self.network) for name in names] for names in self._stage_names]


def new_network(seed: int, weights: Path | None, name: str) -> TimmTiles:
    """One with random weights, or with those of a file."""
    torch.manual_seed(seed)
    network = TimmTiles(name)
    if weights is not None:
        start_from(weights, network.network, (network.head_name,), f"timm's {name}", renamed=_today)
    return network


def _today(name: str) -> str:
    return _OLD_DENSE_NAME.sub(r"\1\2", name)
