"""The paper's network as a package: from weights that there are, or from random ones."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

from pyramidai_mpi.models.engines.fixed_batch import sample_tiles
from pyramidai_mpi.models.write import TILE, PackageText
from pyramidai_mpi.store.files.placing import check_free
from pyramidai_mpi.training.convert.checked_package import ConvertedNetwork, place_package
from pyramidai_mpi.training.convert.tile_classifier import COMPARED_TILES
from pyramidai_mpi.training.networks import inception
from pyramidai_mpi.training.networks.export import to_onnx

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.training.convert.checked_package import Agreement
    from pyramidai_mpi.training.networks.inception import Inception


def write_inception(
    folder: Path, weights: Sequence[Path], levels: int, *, seed: int = 0, threshold: float = 0.5
) -> tuple[PackageText, Agreement]:
    """Write a package of InceptionV3, one network a level.

    Parameters
    ----------
    weights
        State dicts: one for all levels, one a level, or none for random weights.
    seed
        Seed of random weights; the level's number is added to it.

    Raises
    ------
    InputError, OutputExistsError, StorageError
        When weights cannot be used, or the package cannot be written.
    """
    check_free(folder)
    networks: list[ConvertedNetwork] = []
    trained = bool(weights)
    for level in range(levels):
        if weights:
            network, has_head = inception.load_weights(weights[level % len(weights)], seed + level)
            trained = trained and has_head
        else:
            network = inception.random_network(seed + level)
        networks.append(_converted(network))
    text = PackageText(
        name="inception_v3" if trained else "inception_v3-random",
        description=f"InceptionV3 with a head of 224 units; {weights_text(weights)}",
        threshold=threshold,
        random_weights=not trained,
    )
    return text, place_package(folder, text, networks)


def weights_text(weights: Sequence[Path]) -> str:
    """Where weights come from, for a package's description."""
    if not weights:
        return "random weights"
    return "weights of " + ", ".join(f"{p.name}, sha256 {hashlib.sha256(p.read_bytes()).hexdigest()}" for p in weights)


def _converted(network: Inception) -> ConvertedNetwork:
    with torch.inference_mode():
        expected = network(torch.from_numpy(sample_tiles(COMPARED_TILES, TILE)))[0].numpy()
    return ConvertedNetwork(to_onnx(network), expected)
