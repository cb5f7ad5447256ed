"""The small network of one level in torch: its shape, its training, its weights as plain arrays.

Needs torch, which is optional (``pip install pyramidai_mpi[train]``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from pyramidai_mpi.training.weights import ConvLayer, NetworkWeights

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STAGES = ((12, 5, 2), (24, 3, 2), (40, 3, 2), (48, 3, 2), (64, 3, 1))
"""(channels, kernel, stride) of each convolution: 35 million multiplications for a tile of 224 pixels."""

_BATCH = 64


def build() -> nn.Module:
    """Return plain convolutions with batch norm, then mean and maximum over the tile, then one linear layer.

    The maximum lets one lesion in a corner speak for its tile; the mean carries the texture.
    """
    return _Network()


class _Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for out, kernel, stride in STAGES:
            layers += [
                nn.Conv2d(channels, out, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(),
            ]
            channels = out
        self.body = nn.Sequential(*layers)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(2 * channels, 2)

    def forward(self, absorbance: torch.Tensor) -> torch.Tensor:
        maps = self.body(absorbance).float()
        features = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
        return self.head(self.drop(features))  # type: ignore[no-any-return]


def fit(
    pixels: NDArray[np.uint8],
    positive: NDArray[np.bool_],
    *,
    epochs: int,
    seed: int,
    threads: int = 2,
    progress: Callable[[int, float], None] | None = None,
) -> NetworkWeights:
    """Train a network on tiles with Adam and a one-cycle schedule; classes weigh the same whatever their numbers.

    Parameters
    ----------
    pixels
        uint8 (N, 224, 224, 3).
    positive
        bool (N,).
    epochs, seed
        Passes over the tiles; every random choice follows from the seed.
    threads
        Cores torch may use.
    progress
        Called with (epoch, mean loss) after each pass.

    Returns
    -------
    NetworkWeights
        Batch norm folded into the convolutions: a tile's result no longer depends on its neighbours in a batch.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    network = build().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=1e-4)
    steps = -(-len(pixels) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=epochs * steps)
    counts = np.bincount(positive.astype(np.int64), minlength=2)
    weigh = nn.CrossEntropyLoss(
        torch.tensor(len(pixels) / (2 * np.maximum(counts, 1)), dtype=torch.float32), label_smoothing=0.02
    )
    network.train()
    for epoch in range(epochs):
        order, total = rng.permutation(len(pixels)), 0.0
        for start in range(0, len(order), _BATCH):
            chosen = np.sort(order[start : start + _BATCH])
            batch = _augment(pixels[chosen], rng)
            truth = torch.from_numpy(positive[chosen].astype(np.int64))
            # bfloat16 halves the time on processors that have it and costs no accuracy here
            with torch.autocast("cpu", torch.bfloat16):
                logits = network(batch)
            loss = weigh(logits.float(), truth)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        if progress is not None:
            progress(epoch, total / len(pixels))
    return _folded(network)


def _augment(pixels: NDArray[np.uint8], rng: np.random.Generator) -> torch.Tensor:
    """Absorbance of a batch, turned and flipped at random, dyes stronger or weaker by a quarter, some out of focus."""
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    if rng.random() < 0.5:
        images = images.flip(2)
    if rng.random() < 0.5:
        images = images.flip(3)
    if rng.random() < 0.5:
        images = images.transpose(2, 3)
    n = len(pixels)
    gain = np.exp(rng.normal(0, 0.20, (n, 1)) + rng.normal(0, 0.14, (n, 3)))
    shift = rng.normal(0, 0.03, (n, 3))
    absorbance = images.to(torch.float32).mul_(-1 / 255).add_(1)
    absorbance = absorbance.mul_(torch.from_numpy(gain.astype(np.float32))[:, :, None, None])
    absorbance = absorbance.add_(torch.from_numpy(shift.astype(np.float32))[:, :, None, None])
    if rng.random() < 0.3:
        # scanners differ in sharpness
        absorbance = nn.functional.avg_pool2d(absorbance, 3, 1, 1)
    return absorbance.contiguous(memory_format=torch.channels_last)


def predict(weights: NetworkWeights, pixels: NDArray[np.uint8], *, threads: int = 2) -> NDArray[np.float32]:
    """Probability of tumour for each tile, float32 (N,), with the same arithmetic as the exported graph."""
    torch.set_num_threads(threads)
    out = np.empty(len(pixels), np.float32)
    with torch.inference_mode():
        for start in range(0, len(pixels), _BATCH):
            batch = torch.from_numpy(pixels[start : start + _BATCH]).permute(0, 3, 1, 2)
            maps = batch.to(torch.float32).mul_(-1 / 255).add_(1)
            maps = maps.contiguous(memory_format=torch.channels_last)
            for layer in weights.convolutions:
                kernel, bias = torch.from_numpy(layer.kernel), torch.from_numpy(layer.bias)
                maps = nn.functional.conv2d(maps, kernel, bias, layer.stride, layer.padding).relu_()
            features = torch.cat([maps.mean(dim=(2, 3)), maps.amax(dim=(2, 3))], dim=1)
            logits = features @ torch.from_numpy(weights.head).T + torch.from_numpy(weights.head_bias)
            out[start : start + len(batch)] = logits.softmax(dim=1)[:, 1].numpy()
    return out


def _folded(network: nn.Module) -> NetworkWeights:
    """Batch norm in evaluation is one scale and one shift per channel: fold both into the convolution before it."""
    assert isinstance(network, _Network)
    network.eval()
    layers = list(network.body)
    convolutions = []
    for conv, norm in zip(layers[0::3], layers[1::3], strict=True):
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        scale = norm.weight.detach() / torch.sqrt(norm.running_var + norm.eps)
        bias = norm.bias.detach() - norm.running_mean * scale
        kernel = conv.weight.detach() * scale[:, None, None, None]
        convolutions.append(ConvLayer(kernel.contiguous().numpy(), bias.numpy(), conv.stride[0], int(conv.padding[0])))
    return NetworkWeights(tuple(convolutions), network.head.weight.detach().numpy(), network.head.bias.detach().numpy())
