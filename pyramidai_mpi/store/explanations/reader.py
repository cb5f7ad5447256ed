"""Reading files of explanations: checked before HDF5 sees them, and believed only where they fit themselves."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, hdf5_errors
from pyramidai_mpi.base.types import FAILED_DTYPE, index_keys
from pyramidai_mpi.store.explanations.contents import (
    CURVES,
    FORMAT,
    FORMAT_VERSION,
    ExplainedTiles,
    Explanation,
    explanation_digest,
)
from pyramidai_mpi.store.patches.tables import rows_of
from pyramidai_mpi.store.results.check import check_execution, check_slide_and_model
from pyramidai_mpi.store.results.contents import check_objects
from pyramidai_mpi.store.results.records import read_model_record, read_slide_record
from pyramidai_mpi.store.results.seal import check_seal
from pyramidai_mpi.store.results.tables import (
    damage_is_named,
    read_execution,
)

if TYPE_CHECKING:
    from pathlib import Path

_FARTHEST = 1 << 32
_LONGEST_MAP = 1 << 14
_MOST_STEPS = 1 << 16


def read_explanation(path: Path) -> Explanation:
    """Read a whole file of explanations, its maps too.

    Raises
    ------
    InputError
        When it is missing, was changed after it was written, is of another format or version, or holds sizes, numbers
        or rows that do not fit each other or its digest.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file of explanations in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file of explanations; check the path")
    with hdf5_errors(path):
        check_seal(path)
        with h5py.File(path, "r") as file, damage_is_named(file):
            _check_file(file)
            explanation = _read(file)
            if explanation_digest(explanation) != explanation.digest:
                raise InputError(f"{path}: its content gives another digest than it claims; explain the tiles again")
    return explanation


def _check_file(file: h5py.File) -> None:
    if file.attrs.get("format") != FORMAT:
        raise InputError(f"{file.filename}: no explanations: its format is {file.attrs.get('format')!r:.80}")
    if file.attrs.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{file.filename}: has format version {file.attrs.get('format_version')!r:.80}, expected {FORMAT_VERSION}"
        )
    if not file.attrs.get("complete"):
        raise InputError(f"{file.filename}: is not complete; explain the tiles again")
    try:
        check_objects(file)
    except InputError as error:
        raise InputError(f"{file.filename}: {error}; do not trust it, explain the tiles again") from error


def _read(file: h5py.File) -> Explanation:
    slide, model = read_slide_record(file), read_model_record(file)
    check_slide_and_model(slide, model)
    check_execution(file)
    said = file["explanation"].attrs
    settings = json.loads(str(said["settings"]))
    level, downsample, class_name = int(said["level"]), float(said["downsample"]), str(said["class"])
    if not (
        isinstance(settings, dict)
        and class_name in model.classes
        and 0 <= level < len(model.level_sha256)
        and math.isfinite(downsample)
        and 1e-6 < downsample < 1e6
    ):
        raise ValueError("it claims a class, a level, a downsample or settings that no explanation has")
    tiles = _read_tiles(file["tiles"], len(model.classes))
    n_failed = int(file.attrs["n_tiles_failed"])
    failed = rows_of(file["failed"], FAILED_DTYPE, (n_failed,))
    unreadable = np.isnan(tiles.probability).any(axis=1)
    if not (
        np.array_equal(np.stack([failed["col"], failed["row"]], axis=1), tiles.index[unreadable])
        and (failed["level"] == level).all()
    ):
        raise ValueError("its unreadable tiles do not fit the others")
    return Explanation(
        slide=slide,
        model=model,
        method=str(said["method"]),
        class_name=class_name,
        level=level,
        layer=str(said["layer"]),
        downsample=downsample,
        settings=settings,
        tiles=tiles,
        failed=failed,
        execution=read_execution(file),
        digest=str(file.attrs["digest"]),
        software_version=str(file.attrs["software_version"]),
        created=str(file.attrs["created"]),
    )


def _read_tiles(group: h5py.Group, n_classes: int) -> ExplainedTiles:
    """All tables, held against each other."""
    if group["map"].ndim != 3 or group["deletion"].ndim != 2:
        raise ValueError(f"maps of shape {group['map'].shape}, curves of shape {group['deletion'].shape}")
    n, height, width = (int(side) for side in group["map"].shape)
    n_steps = int(group["deletion"].shape[1])
    if not (0 < height <= _LONGEST_MAP and 0 < width <= _LONGEST_MAP and n_steps <= _MOST_STEPS and n_steps != 1):
        raise ValueError(f"maps of {height} x {width}, curves of {n_steps} points")
    real, whole = np.dtype("<f4"), np.dtype("<i8")
    tiles = ExplainedTiles(
        index=rows_of(group["index"], np.dtype("<u4"), (n, 2)),
        l0_coords=rows_of(group["coords"], whole, (n, 2)),
        l0_side=rows_of(group["l0_side"], whole, (n,)),
        probability=rows_of(group["probability"], real, (n, n_classes)),
        maps=rows_of(group["map"], real, (n, height, width)),
        repeatability=rows_of(group["repeatability"], real, (n,)),
        **{name: rows_of(group[name], real, (n, n_steps)) for name in CURVES},
    )
    unreadable = np.isnan(tiles.probability).any(axis=1)
    by_tile = (tiles.probability, tiles.maps.reshape(n, height * width), *(getattr(tiles, name) for name in CURVES))
    if not (
        (np.diff(index_keys(tiles.index)) > 0).all()
        and (np.abs(tiles.l0_coords) < _FARTHEST).all()
        and ((tiles.l0_side > 0) & (tiles.l0_side < _FARTHEST)).all()
        and all(np.isfinite(table[~unreadable]).all() and np.isnan(table[unreadable]).all() for table in by_tile)
        and not np.isinf(tiles.repeatability).any()
        and (np.abs(np.nan_to_num(tiles.repeatability)) <= 1 + 1e-5).all()
    ):
        raise ValueError("its tables of tiles do not fit each other")
    return tiles
