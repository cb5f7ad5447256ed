"""A package of converted networks that appears only when it was seen to answer as the originals do."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, OutputExistsError, StorageError
from pyramidai_mpi.models.engines.fixed_batch import sample_tiles
from pyramidai_mpi.models.engines.onnx_engine import OnnxEngine
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.store.files.placing import temporary_name
from pyramidai_mpi.training.package import BASE_MPP, write_package
from pyramidai_mpi.training.tiles import TILE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

TOLERANCE = 1e-3
"""Of a probability. Kernels of two libraries differ by 1e-7 to 1e-5; a wrong conversion by 0.1 and more."""


@dataclass(frozen=True)
class ConvertedNetwork:
    """One level's network.

    Attributes
    ----------
    graph
        In ONNX.
    expected
        What the original makes of `sample_tiles(len(expected), tile_size)`, float32 (N, C).
    """

    graph: bytes
    expected: npt.NDArray[np.float32]


@dataclass(frozen=True)
class PackageText:
    """What the package says of itself.

    Attributes
    ----------
    name, description
        Its name, and where its networks come from.
    classes, positive_class
        Names, in the order of the networks' output.
    tile_size
        Side of a tile in pixels.
    base_mpp
        µm per pixel of level 0.
    threshold
        Of every level.
    random_weights
        Whether weights were drawn at random, of a head too.
    """

    name: str
    description: str
    classes: tuple[str, ...] = ("normal", "tumor")
    positive_class: str = "tumor"
    tile_size: int = TILE
    base_mpp: float = BASE_MPP
    threshold: float = 0.5
    random_weights: bool = False


@dataclass(frozen=True)
class Agreement:
    """How the package and the originals compare on made-up tiles.

    Attributes
    ----------
    tiles
        Of each level.
    difference
        The greatest between two probabilities, all classes and levels.
    lowest, highest
        Score of the positive class, by the originals: how much there was to differ.
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


def place_package(folder: Path, text: PackageText, networks: Sequence[ConvertedNetwork]) -> Agreement:
    """Write a package under a temporary name, run it beside the originals, and give it its name.

    Raises
    ------
    InputError
        When a network does not load, or differs by more than `TOLERANCE`; nothing is written then.
    OutputExistsError, StorageError
        When something has the name, or the folder cannot be written.
    """
    check_free(folder)
    partial = temporary_name(folder)
    try:
        partial.parent.mkdir(parents=True, exist_ok=True)
        graphs = [network.graph for network in networks]
        write_package(
            partial,
            text.name,
            graphs,
            [text.threshold] * len(graphs),
            base_mpp=text.base_mpp,
            classes=text.classes,
            positive_class=text.positive_class,
            tile_size=text.tile_size,
            description=text.description,
            random_weights=text.random_weights,
        )
        found = _compare(partial, networks)
        if not found.difference <= TOLERANCE:  # NaN too
            raise InputError(
                f"{text.name}: as ONNX its probabilities differ by up to {found.difference:.2g} from those of torch, "
                f"more than {TOLERANCE:g}; nothing was written; a network whose answer depends on chance or on the "
                "other tiles of its batch cannot be imported"
            )
        check_free(folder)
        partial.rename(folder)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return found


def check_free(folder: Path) -> None:
    """Raise `OutputExistsError` when something has the name."""
    if os.path.lexists(folder):
        raise OutputExistsError(f"{folder}: exists already; name another folder")


def _compare(folder: Path, networks: Sequence[ConvertedNetwork]) -> Agreement:
    package = open_package(folder, check_networks=True)
    differences, scores = [], []
    for level, network in zip(package.levels, networks, strict=True):
        found, _ = OnnxEngine(level, package).predict(sample_tiles(len(network.expected), package.tile_size))
        differences.append(np.abs(found - network.expected).max())
        scores.append(network.expected[:, package.score_column])
    return Agreement(
        tiles=len(networks[0].expected),
        difference=float(np.max(differences)),
        lowest=float(np.min(scores)),
        highest=float(np.max(scores)),
    )
