"""Whether what a result file says can be true: looked at once, in blocks, before anything is computed from it.

A seal shows that a file was changed after it was sealed, not who has sealed it. So whatever sizes, numbers and rows a
file claims are held against each other and against what a slide can be; after that, those who read it rely on them.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.settings import FEATURE_TYPES
from pyramidai_mpi.base.types import ANY_SCORE, Decision, WindowState, index_keys
from pyramidai_mpi.store.results.prediction import TILE_TABLES, check_tile_tables, table_shapes
from pyramidai_mpi.store.results.tables import (
    iter_cells,
    iter_column,
    iter_rows,
    names_damage,
    read_execution,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyramidai_mpi.store.results.result import LevelRecord, ModelRecord, SlideRecord
    from pyramidai_mpi.store.results.tables import Header, ResultFile, TileRows

_MOST_LEVELS = 16
_MOST_CLASSES = 1000
_MOST_FEATURES = 1 << 17
_LONGEST_SIDE = 1 << 31
_LARGEST_TILE = 1 << 16
_MOST_CELLS = 1 << 12
"""Along the side of a block."""
_MOST_MASK_PIXELS = 1 << 30
"""Of a slide of 1000000 x 1000000 pixels at 32 pixels a mask pixel."""

_BLOCK_ROWS = 1 << 14
_MOST_RANKS = 1 << 16
_MOST_BATCHES = 1 << 23

_COUNTS = ("batch_size", "tiles_from_journal", "tiles_audited")
_SECONDS = ("tissue_s", "load_s", "analyse_s", "cohort_slide_s")


@names_damage
def check_content(file: ResultFile) -> None:
    """See that header, tables and records of the execution of an open result fit each other.

    Raises
    ------
    InputError
        When they do not, or one of them is of another type or size than any result has.
    """
    header = read_header(file)
    _check_geometry(header)
    _check_tables(file, header)
    if header.prediction is not None:
        _expect(len(header.levels) == 1 and header.levels[0].cell is None, "a prediction of more than level 0's tiles")
        columns = (iter_column(file, 0, name, _BLOCK_ROWS) for name in ("decision", *TILE_TABLES))
        check_tile_tables(header.prediction, zip(*columns, strict=True))
    check_execution(file)


def _expect(fits: bool, what: str) -> None:
    if not fits:
        raise ValueError(f"it claims {what}")


def _is_size(number: float, most: float) -> bool:
    return math.isfinite(number) and 0 < number <= most


def check_slide_and_model(slide: SlideRecord, model: ModelRecord) -> None:
    """See that a slide and a model can be.

    Raises
    ------
    ValueError
        When they claim sizes or names that none has.
    """
    _expect(all(_is_size(side, _LONGEST_SIDE) for side in slide.l0_size), f"a slide of {slide.l0_size} pixels")
    _expect(all(abs(x) <= _LONGEST_SIDE for x in slide.l0_bounds), f"bounds from {slide.l0_bounds}")
    _expect(1e-6 < slide.mpp < 1e6 and 1e-6 < model.base_mpp < 1e6, f"{slide.mpp} µm/px, of the model {model.base_mpp}")
    _expect(len(model.classes) <= _MOST_CLASSES, f"{len(model.classes)} classes")
    _expect(
        model.positive_class in (model.classes or ("",)),
        f"positive class {model.positive_class!r:.80}, which is no class",
    )
    _expect(_is_size(model.tile_size, _LARGEST_TILE), f"tiles of {model.tile_size} pixels")
    _expect(1 <= model.scale_factor <= _LARGEST_TILE, f"a scale factor of {model.scale_factor}")


def _check_geometry(header: Header) -> None:
    slide, model, levels = header.slide, header.model, header.levels
    check_slide_and_model(slide, model)
    if header.encoder is not None:
        check_slide_and_model(slide, header.encoder)
        _expect(not header.encoder.classes and levels[0].n_features > 0, "an encoder that gave nothing")
    if header.is_of_encoder:
        _expect(len(levels) == 1 and levels[0].n_features > 0 and levels[0].cell is None, "features of no tiles")
    _expect(len(levels) == 1 or model.scale_factor > 1, "levels that are all the same")
    _expect(len(levels) <= _MOST_LEVELS, f"{len(levels)} levels")
    for n, level in enumerate(levels):
        _expect(
            _is_size(level.patch_size, _LONGEST_SIDE)
            and _is_size(level.patch_size_level0, _LONGEST_SIDE)
            and 0 <= level.patch_level < 256
            and _is_size(level.downsample, _LONGEST_SIDE)
            and _is_size(level.spacing_um_px, 1e12)
            and all(_is_size(side, _LONGEST_SIDE * _LARGEST_TILE) for side in level.level_dim)
            and not math.isnan(level.threshold)
            and level.n_features <= _MOST_FEATURES
            and level.feature_type in FEATURE_TYPES
            and _are_cells(level, model.tile_size),
            f"a level {n} of such sizes: {level}",
        )
    _check_strides(levels)
    # pictures are drawn on the grid of level-0 tiles: the mask, which is stored, is at least as fine
    pixels_per_tile = header.grid.l0_side(0) / header.mask_downsample
    _expect(abs(pixels_per_tile - max(round(pixels_per_tile), 1)) < 1e-3, f"{pixels_per_tile} mask pixels a tile")
    _expect(math.prod(header.mask_shape) <= _MOST_MASK_PIXELS, f"a tissue mask of {header.mask_shape} pixels")
    for n_pixels, side in zip(header.mask_shape[::-1], slide.l0_size, strict=True):
        _expect(abs(n_pixels - side / header.mask_downsample) <= 2, "a tissue mask of another size than the slide")


def _check_strides(levels: Sequence[LevelRecord]) -> None:
    """See that blocks of windows are the finest levels, and that finer cells nest in coarser ones."""
    _expect(len({level.cell is None for level in levels}) == 1, "a stride at some levels alone")
    are_blocks = [level.block > 1 for level in levels]
    _expect(are_blocks == sorted(are_blocks, reverse=True), "blocks of windows above single ones")
    for n, level in enumerate(levels):
        if level.cell is not None and level.network == 0:
            _expect(level.cell % (levels[0].cell or 1) == 0, f"cells of {level.cell} at level {n} that do not nest")


def _are_cells(level: LevelRecord, window: int) -> bool:
    """Whether cells, blocks and windows can be those of a run."""
    if level.cell is None:
        return (level.block, level.margin, level.base, level.side) == (1, 0, None, 1)
    return (
        0 < level.cell <= window
        and 1 <= level.block <= _MOST_CELLS
        and 0 <= level.margin < window
        and level.base is not None
        and 0 < level.base <= window
        and level.network is not None
        and 0 <= level.network < _MOST_LEVELS
        and {level.ring_before, level.ring_after} <= {0, 1}
    )


def _check_tables(file: ResultFile, header: Header) -> None:
    mask = file["tissue/mask"]
    _expect(mask.ndim == 2 and mask.dtype == np.uint8, f"a tissue mask of {mask.dtype} {mask.shape}")
    names, last = sorted(file["levels"]), len(header.levels) - 1
    _expect(set(names) == {str(n) for n in range(last + 1)}, f"the levels {names!r:.200}, expected 0..{last}")
    n_parents = 0
    for n in reversed(range(len(header.levels))):
        group, n_tiles = file[f"levels/{n}"], header.n_tiles[n]
        for name, dtype, row in _tables_of(header, n):
            table = group[name]
            if table.dtype != dtype or table.shape != (n_tiles, *row):
                raise InputError(
                    f"{file.filename}: {table.name} is {table.dtype} {table.shape}, expected {dtype} {(n_tiles, *row)}"
                )
        last_key = -1
        for rows in iter_rows(file, n):
            keys = index_keys(rows.index).astype(np.int64)
            if keys[0] <= last_key or not _fit(rows, keys, header, n_parents):
                raise InputError(f"{file.filename}: the tables of level {n} do not fit each other")
            last_key = int(keys[-1])
        if header.levels[n].block > 1:
            _check_cells(file, n)
        n_parents = n_tiles


def _tables_of(header: Header, level: int) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Name, type and shape of a row of each table."""
    n_features = header.levels[level].n_features
    tables: list[tuple[str, np.dtype[Any], tuple[int, ...]]] = [
        ("coords", np.dtype(np.int64), (2,)),
        ("index", np.dtype(np.uint32), (2,)),
        ("probability", np.dtype(np.float32), (len(header.model.classes),)),
        ("decision", np.dtype(np.uint8), ()),
        ("parent", np.dtype(np.int64), ()),
    ]
    side = header.levels[level].side
    if header.levels[level].block > 1:
        tables += [("score", np.dtype(np.float32), (side, side)), ("state", np.dtype(np.uint8), (side, side))]
    if header.prediction is not None and level == 0:
        tables += table_shapes(header.prediction)
    kept = np.dtype(header.levels[level].feature_type)
    return [*tables, ("features", kept, (n_features,))] if n_features else tables


def _check_cells(file: ResultFile, level: int) -> None:
    """See that cells of blocks have a score where their state says so."""
    for _, score, state in iter_cells(file, level):
        known = np.isin(state, ANY_SCORE)
        if (state > max(WindowState)).any() or (np.isfinite(score) != known).any():
            raise InputError(f"{file.filename}: the cells of level {level} do not fit their states")


def _fit(rows: TileRows, keys: Any, header: Header, n_parents: int) -> bool:
    """Whether rows of a level are in order, inside the slide, decided, and under tiles that are there."""
    is_lowest = rows.level == len(header.levels) - 1
    least_parent = min(-1 if is_lowest else 0, n_parents - 1)  # without tiles above (mode reference) there is no parent
    is_read = np.isfinite(rows.probability).all(axis=1)
    return bool(
        (np.diff(keys) > 0).all()
        and (rows.index < header.grid.shape(rows.level)).all()
        and (np.abs(rows.l0_coords) <= 2 * _LONGEST_SIDE).all()
        and (rows.decision <= max(Decision)).all()
        and (header.is_of_encoder or ((rows.decision != Decision.UNREADABLE) == is_read).all())
        and (not header.is_of_encoder or (rows.decision != Decision.ZOOM).all())
        and (rows.parent >= least_parent).all()
        and (rows.parent < n_parents).all()
    )


def check_execution(file: ResultFile) -> None:
    """See that what a file says of how it came about can be; raises `ValueError` where it cannot."""
    group = file["execution"]
    _expect(len(group["ranks"]) <= _MOST_RANKS, f"{len(group['ranks'])} ranks")
    _expect("batches" not in group or len(group["batches"]) <= _MOST_BATCHES, "too many batches")
    execution = read_execution(file)
    _expect("rank" in (execution.ranks.dtype.names or ()), "no table of ranks")
    for name in (*_COUNTS, *_SECONDS):
        if name in execution.attributes:
            number = np.asarray(execution.attributes[name])
            _expect(number.ndim == 0 and number.dtype.kind in "iuf", f"that {name} is no number")
            _expect(bool(0 <= number < 2**53), f"that {name} is {number}")
