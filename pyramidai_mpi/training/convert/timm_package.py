"""A network of timm as a package, the same architecture at every level."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.models.write import PackageText
from pyramidai_mpi.store.files.placing import check_free
from pyramidai_mpi.training.convert.checked_package import place_encoder, place_package
from pyramidai_mpi.training.convert.paper_package import weights_text
from pyramidai_mpi.training.convert.timm_network import (
    convert,
    convert_encoder,
    encoder,
    network_from_file,
    pretrained_network,
    random_network,
)
from pyramidai_mpi.training.convert.zoo import chosen_class

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyramidai_mpi.training.convert.checked_package import Agreement, FeatureAgreement


@dataclass(frozen=True)
class TimmRequest:
    """What to make of which network.

    Attributes
    ----------
    architecture
        The network's name in timm.
    classes, positive_class
        Names in the order of the network's output, and the positive one of them; None for the second of two.
    base_mpp
        Micrometres per pixel of level 0.
    weights
        State dicts, one for all levels or one a level; empty for the weights that timm fetches.
    random
        Whether the weights are drawn at random instead.
    seed
        Seed of random weights; the level's number is added to it.
    tile_size
        Side of a tile in pixels; None for the one that timm names.
    levels, threshold
        How many levels there are, and the threshold of each.
    """

    architecture: str
    classes: tuple[str, ...]
    base_mpp: float
    positive_class: str | None = None
    weights: tuple[Path, ...] = ()
    random: bool = False
    seed: int = 0
    tile_size: int | None = None
    levels: int = 1
    threshold: float = 0.5


@dataclass(frozen=True)
class EncoderRequest:
    """What encoder to make of which network.

    Attributes
    ----------
    architecture, settings
        The network's name in timm, and further arguments of timm's ``create_model``.
    base_mpp
        Micrometres per pixel of the tiles.
    weights
        Its state dict; None for the weights that timm fetches.
    seed
        Of weights that are drawn at random instead; None where they are not.
    tile_size
        Side of a tile in pixels; None for the one that timm names.
    batch
        Tiles that the network is given at a time; None to find by measuring.
    """

    architecture: str
    base_mpp: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    weights: Path | None = None
    seed: int | None = None
    tile_size: int | None = None
    batch: int | None = None


def import_encoder(folder: Path, request: EncoderRequest) -> tuple[PackageText, FeatureAgreement]:
    """Write the package of an encoder.

    Raises
    ------
    UsageError
        When timm has no such network.
    InputError, OutputExistsError, StorageError
        When weights cannot be used, or the package cannot be written.
    """
    check_free(folder)
    name = request.architecture
    network = encoder(name, request.settings, request.weights, request.seed)
    side = request.tile_size or network.tile_size
    origin = "weights that timm fetched" if request.weights is None else weights_text([request.weights])
    is_random = request.seed is not None
    text = PackageText(
        name=f"{name}-random" if is_random else name,
        description=f"timm's {name} as an encoder; {'random weights' if is_random else origin}",
        classes=(),
        tile_size=side,
        base_mpp=request.base_mpp,
        random_weights=is_random,
        batch=request.batch,
    )
    return text, place_encoder(folder, text, convert_encoder(network, side))


def import_timm(folder: Path, request: TimmRequest) -> tuple[PackageText, Agreement]:
    """Write the package.

    Raises
    ------
    UsageError
        When timm has no such network, or classes and files do not fit each other.
    InputError, OutputExistsError, StorageError
        When weights cannot be used, or the package cannot be written.
    """
    check_free(folder)
    name, classes = request.architecture, request.classes
    if len(classes) < 2 or len(set(classes)) != len(classes) or not all(c and c.isprintable() for c in classes):
        raise UsageError(f"--classes {','.join(classes)}: expected two or more distinct names with commas between")
    positive = chosen_class(classes, request.positive_class)
    if len(request.weights) not in {0, 1, request.levels}:
        raise UsageError(
            f"--weights: {len(request.weights)} files for {request.levels} levels; give one, or one a level"
        )
    if request.random:
        networks = [random_network(name, len(classes), request.seed + level) for level in range(request.levels)]
    elif request.weights:
        networks = [network_from_file(name, len(classes), path, request.seed) for path in request.weights]
    else:
        networks = [pretrained_network(name, len(classes), request.seed)]
    side = request.tile_size or networks[0].tile_size
    converted = [convert(network, side, len(classes)) for network in networks]
    trained = all(network.has_head for network in networks)
    origin = "weights that timm fetched" if not (request.random or request.weights) else weights_text(request.weights)
    text = PackageText(
        name=name if trained else f"{name}-random",
        description=f"timm's {name}; {origin}",
        classes=classes,
        positive_class=positive,
        tile_size=side,
        base_mpp=request.base_mpp,
        threshold=request.threshold,
        random_weights=not trained,
    )
    if len(converted) < request.levels:  # one network for all
        converted *= request.levels
    return text, place_package(folder, text, converted)
