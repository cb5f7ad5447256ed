"""CLAM's and TRIDENT's file of coordinates: HDF5 with ``coords``, and with ``features`` where there are some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    import numpy.typing as npt

# TRIDENT's table (OpenSlideWSI._fetch_magnification): objective power by µm/px below
_MAGNIFICATIONS = ((0.16, 80), (0.2, 60), (0.3, 40), (0.6, 20), (1.2, 10), (2.4, 5))
_CHUNK_ROWS = 4096

Rows = tuple[int, "np.dtype[Any] | type", "Iterable[npt.NDArray[Any]]"]
"""A table: its columns, its type, and its rows in blocks."""


def nominal_magnification(mpp: float) -> int:
    """Objective power that goes with a pixel size, in the steps that TRIDENT uses; 2 beyond them."""
    return next((power for below, power in _MAGNIFICATIONS if mpp < below), 2)


def clam_attributes(
    name: str, folder: str, patch_size: int, patch_level: int, downsample: float, level_dim: tuple[int, int]
) -> dict[str, Any]:
    """What CLAM writes beside its coordinates (wsi_core/WholeSlideImage.py, process_contour).

    Parameters
    ----------
    name, folder
        The slide's name without its ending, and the folder that the file is for.
    patch_size, patch_level
        Side of a patch in pixels of that stored level, which is how CLAM reads it.
    downsample
        Level-0 pixels per pixel of it.
    level_dim
        Its width and height.
    """
    return {
        "patch_size": patch_size,
        "patch_level": patch_level,
        "downsample": np.array([downsample] * 2),
        "downsampled_level_dim": np.array(level_dim, np.int64),
        "level_dim": np.array(level_dim, np.int64),
        "name": name,
        "save_path": folder,
    }


def trident_attributes(
    name: str,
    folder: str,
    patch_size: int,
    patch_size_level0: int,
    mpp: float,
    magnification: float,
    l0_size: tuple[int, int],
    overlap: int,
) -> dict[str, Any]:
    """What TRIDENT writes beside its coordinates (trident/IO.py, coords_to_h5).

    Parameters
    ----------
    name, folder
        As with CLAM.
    patch_size, patch_size_level0
        Side of a patch in pixels at `magnification`, and in level-0 pixels.
    mpp
        µm per level-0 pixel, from which the level-0 magnification follows.
    magnification
        Of the patches.
    l0_size
        Width and height of the slide.
    overlap
        Pixels that neighbouring patches share, at `magnification`.
    """
    return {
        "patch_size": patch_size,
        "patch_size_level0": patch_size_level0,
        "level0_magnification": nominal_magnification(mpp),
        "target_magnification": int(magnification) if float(magnification).is_integer() else float(magnification),
        "overlap": overlap,
        "name": name,
        "savetodir": folder,
        "level0_width": l0_size[0],
        "level0_height": l0_size[1],
    }


def write_coordinate_file(
    path: Path, n_rows: int, tables: Mapping[str, Rows], attributes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write the tables of a file, each with its attributes.

    Parameters
    ----------
    path
        File to fill.
    n_rows
        Rows of each.
    tables, attributes
        By name: ``coords`` int64 (N, 2) l0_x, l0_y of top-left corners; ``features`` float32 (N, F).

    Raises
    ------
    OSError, RuntimeError
        When the file cannot be written.
    """
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        for name, (width, dtype, blocks) in tables.items():
            chunks = (min(max(n_rows, 1), _CHUNK_ROWS), width)
            table = file.create_dataset(name, (n_rows, width), dtype, chunks=chunks, maxshape=(None, width))
            first = 0
            for block in blocks:
                table[first : first + len(block)] = block
                first += len(block)
            table.attrs.update(attributes[name])
