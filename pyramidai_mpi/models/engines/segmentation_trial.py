"""Trying out a network that segments whole images in a child process: whether it loads, and keeps to its halo.

A network is a program, and what its package says of stride and halo is a claim. Both are seen here before a slide is.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.description import YAML_NAME
from pyramidai_mpi.models.segmentation_package import load_segmentation_package
from pyramidai_mpi.process.sandbox import Trial, run_under_limits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork

_SECONDS = 120
_MEMORY_BYTES = 8 << 30
_MOST_PIXELS = 2048
"""A side of the image on which the halo is tried; for halos of more, only that the network runs is seen."""
_MOST_DIFFERENCE = 1e-5
"""Of probabilities. The same convolutions on other shapes differ by 1e-7."""


def try_segmentation_network(folder: Path) -> None:
    """Load and run a package's network in a child, unless this process has seen the same files pass already.

    Raises
    ------
    PyramidError
        As `process.sandbox.Trial.check`.
    """
    stamps = []
    for path in (folder / YAML_NAME, load_segmentation_package(folder, check_file=False).onnx_path):
        status = path.stat()
        stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
    _tried(folder.absolute(), tuple(stamps))


@cache
def _tried(folder: Path, _stamps: tuple[tuple[int, ...], ...]) -> None:
    module = "pyramidai_mpi.models.engines.segmentation_trial"
    with Trial(folder, module, [os.fspath(folder)], seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as trial:
        trial.check()


def check_halo(network: SegmentationNetwork) -> None:
    """See that a block with its halo gives what the whole image gives there.

    Raises
    ------
    InputError
        When it does not: the network has layers over the whole image, or reaches farther than its package says.
    """
    text = network.package.text
    stride, halo = text.total_stride, text.halo
    block = stride * max(1, -(-32 // stride))
    side = 4 * stride + block + 2 * halo
    if side > _MOST_PIXELS:
        network.probability(np.zeros((stride, stride, 3), np.uint8))
        return
    pixels = _made_up(side)
    whole = network.probability(pixels)
    # one stride from the corner: where maps are made at multiples of more, they shift
    first = stride + halo
    own = np.s_[first : first + block, first : first + block]
    # and three strides smaller: of two such sides one is no multiple of twice the stride, if that is what it takes
    part = network.probability(pixels[stride : -2 * stride, stride : -2 * stride])
    apart = part[halo : halo + block, halo : halo + block]
    if not np.allclose(whole[own], apart, rtol=0, atol=_MOST_DIFFERENCE, equal_nan=True):
        raise InputError(
            f"{network.package.onnx_path}: its answers change by {np.nanmax(np.abs(whole[own] - apart)):.2g} with "
            f"pixels more than {halo} px away, so blocks cannot be computed apart: it has a layer over the whole image "
            f"(global pooling, attention), or {YAML_NAME} understates halo or total_stride"
        )


def _made_up(side: int) -> RgbArray:
    """Coloured noise, brighter on one side, so that means over the whole image are no means of the middle."""
    noise = np.random.default_rng(0).integers(0, 128, (side, side, 3))
    return np.asarray(noise + np.linspace(0, 127, side).astype(int)[:, None, None], np.uint8)


def _load_and_run(arguments: Sequence[str]) -> None:
    from pyramidai_mpi.models.check import check_segmentation_network
    from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork

    package = load_segmentation_package(Path(arguments[0]), check_file=False)  # hashing is done by who will use it
    check_segmentation_network(package)
    check_halo(SegmentationNetwork(package))


def main() -> None:
    """The child's work."""
    run_under_limits(_load_and_run)
