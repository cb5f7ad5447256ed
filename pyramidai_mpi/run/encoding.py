"""Features of an encoder: as the model of a run, or beside a classifier on the tiles of level 0 that it reaches."""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.models.engines.backends import load_engine
from pyramidai_mpi.models.engines.features import cosines
from pyramidai_mpi.models.engines.fixed_batch import sample_positions, sample_tiles
from pyramidai_mpi.models.engines.trial import try_loading
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.run.aggregation import keeps_features
from pyramidai_mpi.run.facts import Fact, Kind, description_hash
from pyramidai_mpi.slides.spacing import SNAP_TOLERANCE

if TYPE_CHECKING:
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.run.facts import Facts

log = logging.getLogger(__name__)

LEAST_COSINE = 0.99
"""Of the features of a made-up tile in a lower precision and in float32: less is no rounding, but another network."""
_TILES = 4

NO_ENCODER = Fact("encoder_sha256", "--encoder", "", Kind.MODEL, has_own_place=True)
"""Of a run without one. It stands in no table, so that journals and results of versions before encoders match."""
NO_DESCRIPTION = Fact("encoder_yaml_sha256", "--encoder's model.yaml", "", Kind.MODEL, has_own_place=True)
"""Likewise."""
FLOAT32_FEATURES = Fact("feature_type", "--feature-type", "float32", Kind.SETTING, has_own_place=True)
"""Of a run whose features are not float16, or that keeps none; likewise."""


def with_encoder(settings: RunSettings, package: ModelPackage) -> ModelPackage:
    """The model with the encoder that is asked for beside it, both seen to do what is asked.

    Raises
    ------
    InputError
        The encoder's package is none, or does not see level 0 as the model does.
    UsageError
        Options do not fit the packages.
    """
    asked, windows = settings.model, settings.windows
    if package.is_encoder and windows.given:
        raise UsageError(f"--stride: model {package.name} is an encoder, of tiles side by side; leave it out")
    if asked.encoder is None:
        if asked.feature_type != FLOAT32_FEATURES.value and not keeps_features(settings, package):
            raise UsageError(f"--feature-type {asked.feature_type}: no features are kept; give --features too")
        return package
    if package.is_encoder:
        raise UsageError(f"--encoder {asked.encoder}: model {package.name} is an encoder already; give one of the two")
    if package.aggregator is not None or asked.features:
        whose = "--features keeps those of the model" if asked.features else "the model's aggregator needs its own"
        raise UsageError(f"--encoder {asked.encoder}: a tile has one vector of features, and {whose}; leave one out")
    if windows.given:
        raise UsageError(f"--encoder {asked.encoder}: is for tiles side by side; leave --stride and --overlap out")
    encoder = read_package(asked.encoder, check_files=False)
    _check_fit(encoder, package)
    return replace(package, encoder=encoder)


def _check_fit(encoder: ModelPackage, package: ModelPackage) -> None:
    """See that an encoder takes the very pixels that the model's level 0 is given."""
    where = f"{encoder.folder}: --encoder"
    if not encoder.is_encoder:
        raise InputError(f"{where}: has the classes {', '.join(encoder.classes)}; expected an encoder, which has none")
    if encoder.tile_size != package.tile_size:
        raise InputError(
            f"{where}: sees tiles of {encoder.tile_size} px, and model {package.name} has tiles of "
            f"{package.tile_size} px; use packages of one tile size"
        )
    if not math.isclose(encoder.base_mpp, package.base_mpp, rel_tol=SNAP_TOLERANCE):
        raise InputError(
            f"{where}: is for {encoder.base_mpp:g} µm/px, and level 0 of model {package.name} has "
            f"{package.base_mpp:g}; use packages of one spacing"
        )
    if (encoder.stain_target, encoder.stain_per) != (package.stain_target, package.stain_per):
        raise InputError(f"{where}: has another stain normalisation than model {package.name}; use packages of one")
    if encoder.sees_position:
        raise InputError(f"{where}: is told where tiles lie (inputs: [position]), which is for a run of its own")


def facts_of_encoding(settings: RunSettings, package: ModelPackage) -> Facts:
    """What decides the features, where it is something that other runs do not have."""
    facts = []
    if package.encoder is not None:
        facts.append(replace(NO_ENCODER, value=package.encoder.levels[0].sha256))
        facts.append(replace(NO_DESCRIPTION, value=description_hash(package.encoder.yaml_text)))
    if settings.model.feature_type != FLOAT32_FEATURES.value:
        facts.append(replace(FLOAT32_FEATURES, value=settings.model.feature_type))
    return tuple(facts)


def check_precision(package: ModelPackage, settings: RunSettings) -> None:
    """Say how near an encoder in a lower precision comes to itself in float32, on some made-up tiles.

    Raises
    ------
    InputError
        Less than `LEAST_COSINE`.
    """
    encoder, precision = package if package.is_encoder else package.encoder, settings.model.precision
    if encoder is None or precision == "float32":
        return
    tiles, places = sample_tiles(_TILES, encoder.tile_size), sample_positions(_TILES)
    whole, rounded = (
        load_engine(encoder.levels[0], encoder, settings.model.backend, one).predict(
            tiles, features=True, positions=places
        )[1]
        for one in ("float32", precision)
    )
    assert whole is not None
    assert rounded is not None
    least = float(cosines(whole, rounded).min())
    log.info(
        "encoder %s in %s: least cosine to float32 %.4f, of %d made-up tiles", encoder.name, precision, least, _TILES
    )
    if not least >= LEAST_COSINE:
        raise InputError(
            f"{encoder.folder}: in {precision} its features are others than in float32 (cosine {least:.4f}, at least "
            f"{LEAST_COSINE:g} is expected); run without --precision"
        )


def check_encoder(package: ModelPackage) -> None:
    """Try the network of the encoder beside a model in a child, as that of any model is.

    Raises
    ------
    InputError
        It does not pass.
    """
    if package.encoder is not None:
        with try_loading(package.encoder.folder) as trial:
            trial.check()
