"""Reading result files."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pyramidai_mpi.errors import InputError
from pyramidai_mpi.store.result import FORMAT, FORMAT_VERSION, digest_of
from pyramidai_mpi.tree import TreeLevel
from pyramidai_mpi.types import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def open_result(path: Path) -> Iterator[h5py.File]:
    """Open a complete result file for reading.

    Raises
    ------
    InputError
        When it is missing, no HDF5 file, no result, of another format version or not complete, or lacks what is read.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such result file; check the path")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise InputError(f"{path}: not a readable HDF5 file: {error}") from error
    with file:
        if file.attrs.get("format") != FORMAT:
            raise InputError(f"{path}: no result of this program: its format is {file.attrs.get('format')!r}")
        if file.attrs.get("format_version") != FORMAT_VERSION:
            raise InputError(
                f"{path}: has format version {file.attrs.get('format_version')!r}, expected {FORMAT_VERSION}"
            )
        if not file.attrs.get("complete"):
            raise InputError(f"{path}: is not complete; run the analysis again")
        try:
            yield file
        except (KeyError, OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{path}: damaged result file: {error}") from error


def read_levels(file: h5py.File) -> dict[int, TreeLevel]:
    """The analysed tiles of every level."""
    return {
        int(n): TreeLevel(
            index=group["index"][...],
            probability=group["probability"][...],
            decision=group["decision"][...],
            parent=group["parent"][...],
        )
        for n, group in file["levels"].items()
    }


def read_digest(path: Path) -> str:
    """The digest of a result file, computed from its content (see `store.result.digest_of`)."""
    with open_result(path) as file:
        levels = read_levels(file)
        return digest_of(
            str(file["slide"].attrs["quickhash"]),
            tuple(str(sha256) for sha256 in file["model"].attrs["level_sha256"]),
            [float(file[f"levels/{n}"].attrs["threshold"]) for n in sorted(levels)],
            levels,
        )


@dataclass(frozen=True)
class LevelSummary:
    """Tiles of one level by outcome."""

    level: int
    spacing_um_px: float
    threshold: float
    analysed: int
    zoomed: int
    unreadable: int


@dataclass(frozen=True)
class ResultSummary:
    """A result file in a few words."""

    slide: str
    l0_size: tuple[int, int]
    mpp: float
    model: str
    software_version: str
    created: str
    n_tiles_failed: int
    levels: tuple[LevelSummary, ...]
    execution: dict[str, Any]


def summarise(path: Path) -> ResultSummary:
    """Describe a result file."""
    with open_result(path) as file:
        levels = []
        for n in sorted(file["levels"], key=int):
            group = file["levels"][n]
            decision = group["decision"][...]
            levels.append(
                LevelSummary(
                    level=int(n),
                    spacing_um_px=float(group.attrs["spacing_um_px"]),
                    threshold=float(group.attrs["threshold"]),
                    analysed=len(decision),
                    zoomed=int(np.count_nonzero(decision == Decision.ZOOM)),
                    unreadable=int(np.count_nonzero(decision == Decision.UNREADABLE)),
                )
            )
        width, height = file["slide"].attrs["dimensions"]
        return ResultSummary(
            slide=str(file["slide"].attrs["name"]),
            l0_size=(int(width), int(height)),
            mpp=float(file["slide"].attrs["mpp"]),
            model=str(file["model"].attrs["name"]),
            software_version=str(file.attrs["software_version"]),
            created=str(file.attrs["created"]),
            n_tiles_failed=int(file.attrs["n_tiles_failed"]),
            levels=tuple(levels),
            execution=dict(file["execution"].attrs),
        )
