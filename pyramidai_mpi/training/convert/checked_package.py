"""A package of converted networks that appears only when it was seen to answer as the originals do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.engines.batch_choice import fastest_batch, speeds_by_batch
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.write import write_package
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.store.files.placing import placed_folder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.write import PackageText

TOLERANCE = 1e-3
"""Of a probability. Kernels of two libraries differ by 1e-7 to 1e-5; a wrong conversion by 0.1 and more."""


@dataclass(frozen=True)
class ConvertedNetwork:
    """One level's network.

    Attributes
    ----------
    graph
        The network, serialised as ONNX.
    expected
        What the original makes of `sample_tiles(len(expected), tile_size)`, at `sample_positions(len(expected))` if it
        sees positions: probabilities, float32 (N, C), or an encoder's features, float32 (N, F).
    """

    graph: bytes
    expected: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Agreement:
    """How the package and the originals compare on made-up tiles.

    Attributes
    ----------
    tiles
        How many tiles each level was asked about.
    difference
        The greatest difference between two probabilities, all classes and levels.
    lowest, highest
        The lowest and highest score that the originals gave the positive class: how much there was to differ.
    """

    tiles: int
    difference: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return (
            f"{self.tiles} made-up tiles a level: probabilities {self.lowest:.3f} to {self.highest:.3f}, "
            f"greatest difference from torch {self.difference:.1e}"
        )


@dataclass(frozen=True)
class FeatureAgreement:
    """How an encoder's package and the original compare on made-up tiles.

    Attributes
    ----------
    tiles, n_features
        How many tiles were compared, and the length of a vector.
    difference
        The greatest difference between two numbers, over the largest one's size.
    cosine
        The least cosine between a tile's two vectors.
    batch
        Tiles that the network is given at a time.
    speeds
        Tiles a second by that number, where it was measured.
    """

    tiles: int
    n_features: int
    difference: float
    cosine: float
    batch: int
    speeds: Mapping[int, float]

    def __str__(self) -> str:
        measured = ", ".join(f"{size}: {speed:.3g}" for size, speed in self.speeds.items())
        why = f"; tiles/s of one thread by that number: {measured}" if measured else ""
        return (
            f"{self.tiles} made-up tiles: {self.n_features} features each, least cosine to torch's {self.cosine:.6f}; "
            f"{self.batch} tiles at a time{why}"
        )


def place_encoder(folder: Path, text: PackageText, network: ConvertedNetwork) -> FeatureAgreement:
    """Write an encoder's package under a temporary name, run it beside the original, and give it its name.

    Parameters
    ----------
    text
        Where it says no ``batch``, that is found by measuring.
    network
        What is expected of it are features.

    Raises
    ------
    InputError
        When the network does not load, or differs by more than `TOLERANCE` of the largest feature; nothing is written
        then.
    OutputExistsError, StorageError
        When something has the name, or the folder cannot be written.
    """
    with placed_folder(folder) as partial:
        write_package(partial, text.document(1), [network.graph])
        package = open_package(partial, check_networks=True)
        (level,), speeds = package.levels, {}
        if text.batch is None:
            speeds = speeds_by_batch(level, package)
            document = replace(text, batch=fastest_batch(speeds)).document(1)
            write_package(partial, document, [network.graph], overwrite=True)
            (level,) = read_package(partial).levels
        expected = network.expected
        _, features = OnnxEngine(level, package).predict(sample_tiles(len(expected), text.tile_size), features=True)
        assert features is not None
        found = FeatureAgreement(
            tiles=len(expected),
            n_features=features.shape[1],
            difference=float(np.abs(features - expected).max() / max(float(np.abs(expected).max()), 1e-9)),
            cosine=float(cosines(expected, features).min()),
            batch=level.batch,
            speeds=speeds,
        )
        if not found.difference <= TOLERANCE:  # NaN too
            raise InputError(
                f"{text.name}: as ONNX its features differ by up to {found.difference:.2g} of the largest from those "
                f"of torch, more than {TOLERANCE:g}; nothing was written; a network whose answer depends on chance or "
                "on the other tiles of its batch cannot be imported"
            )
    return found


def place_package(folder: Path, text: PackageText, networks: Sequence[ConvertedNetwork]) -> Agreement:
    """Write a package under a temporary name, run it beside the originals, and give it its name.

    Raises
    ------
    InputError
        When a network does not load, or differs by more than `TOLERANCE`; nothing is written then.
    OutputExistsError, StorageError
        When something has the name, or the folder cannot be written.
    """
    with placed_folder(folder) as partial:
        write_package(partial, text.document(len(networks)), [network.graph for network in networks])
        found = _compare(partial, networks)
        if not found.difference <= TOLERANCE:  # NaN too
            raise InputError(
                f"{text.name}: as ONNX its probabilities differ by up to {found.difference:.2g} from those of torch, "
                f"more than {TOLERANCE:g}; nothing was written; a network whose answer depends on chance or on the "
                "other tiles of its batch cannot be imported"
            )
    return found


def _compare(folder: Path, networks: Sequence[ConvertedNetwork]) -> Agreement:
    package = open_package(folder, check_networks=True)
    differences, scores = [], []
    for level, network in zip(package.levels, networks, strict=True):
        count = len(network.expected)
        found, _ = OnnxEngine(level, package).predict(
            sample_tiles(count, package.tile_size), positions=sample_positions(count)
        )
        differences.append(np.abs(found - network.expected).max())
        scores.append(network.expected[:, package.score_column])
    return Agreement(
        tiles=len(networks[0].expected),
        difference=float(np.max(differences)),
        lowest=float(np.min(scores)),
        highest=float(np.max(scores)),
    )
