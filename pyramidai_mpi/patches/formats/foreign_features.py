"""Reading files of features: of results of this program, of CLAM's and of TRIDENT's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, PyramidError, failed_read, input_errors
from pyramidai_mpi.process.sandbox import Trial, run_under_limits
from pyramidai_mpi.slides.identity import quickhash

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

_TABLES = ("levels/0/features", "features")
_SECONDS = 120
_MEMORY_BYTES = 8 << 30
_STRETCH = 4096


class FeatureFile:
    """Features of a slide's tiles in an HDF5 file.

    They are the table ``/levels/0/features`` of a result, or ``features`` as CLAM and TRIDENT write it: (N, F) or
    (1, N, F), in single or half precision.

    Parameters
    ----------
    path
        The file.
    tried
        Whether a child process has read it before; else one does now, as HDF5 may crash or hang on a damaged one.

    Attributes
    ----------
    n_tiles, n_features
        N and F.

    Raises
    ------
    InputError
        It cannot be read, or holds none.
    """

    def __init__(self, path: Path, *, tried: bool = False) -> None:
        self.path = path
        if not tried:
            if not path.is_file():
                raise InputError(f"{path}: no such file of features; check the path")
            with Trial(path, __name__, [os.fspath(path)], seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as trial:
                trial.check()
        with _opened(path) as file:
            table = _table(path, file)
            self.n_tiles, self.n_features = (int(size) for size in table.shape[-2:])

    def quickhash(self) -> str:
        """Tells the file's content from others', see `slides.identity`."""
        with input_errors(self.path):
            return quickhash(self.path)

    def rows(self, tiles: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        """Features float32 (n, F) of some tiles, whose numbers rise.

        Raises
        ------
        InputError
            They cannot be read, or are not finite.
        """
        found = np.empty((len(tiles), self.n_features), np.float32)
        with _opened(self.path) as file:
            table = _table(self.path, file)
            # in stretches: HDF5 takes far longer to find rows one by one
            for start in range(int(tiles[0]), int(tiles[-1]) + 1, _STRETCH) if len(tiles) else ():
                first, end = np.searchsorted(tiles, [start, start + _STRETCH])
                wanted = tiles[first:end]
                if not len(wanted):
                    continue
                try:
                    stretch = slice(int(wanted[0]), int(wanted[-1]) + 1)
                    rows = table[stretch] if table.ndim == 2 else table[0, stretch]
                except (OSError, RuntimeError, ValueError) as error:
                    raise _unreadable(self.path, error) from error
                found[first:end] = rows[wanted - wanted[0]]
        if not np.isfinite(found).all():
            raise InputError(f"{self.path}: holds features that are not finite numbers; compute them anew")
        return found


def feature_files(words: Sequence[Path]) -> list[Path]:
    """Files, and those of folders by name.

    Raises
    ------
    InputError
        A folder cannot be read, or holds none.
    """
    found: list[Path] = []
    for word in words:
        if not word.is_dir():
            found.append(word)
            continue
        with input_errors(word):
            files = sorted(one for one in word.iterdir() if one.suffix == ".h5" and not one.name.startswith("."))
        if not files:
            raise InputError(f"{word}: holds no file of features; looked for *.h5")
        found += files
    return found


def _opened(path: Path) -> h5py.File:
    try:
        return h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error


def _table(path: Path, file: h5py.File) -> h5py.Dataset:
    try:
        for name in _TABLES:
            # nothing that leads out of the file: HDF5 follows links into others
            table = file.get(name) if isinstance(file.get(name, getlink=True), h5py.HardLink) else None
            if isinstance(table, h5py.Dataset) and not table.external and not table.is_virtual:
                shape, kind = table.shape, table.dtype
                is_flat = table.ndim == 2 or (table.ndim == 3 and shape[0] == 1)
                if not is_flat or kind.kind != "f" or min(shape) < 1:
                    raise InputError(f"{path}: its {name} are {kind} {shape}, expected floats (N, F) or (1, N, F)")
                return table
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    raise InputError(f"{path}: holds no features; expected /levels/0/features (run --features), or CLAM's features")


def _unreadable(path: Path, error: Exception) -> PyramidError:
    return failed_read(path, error) or InputError(
        f"{path}: not a readable HDF5 file: {' '.join(str(error).split())[:200]}"
    )


def _read_all(path: Path) -> int:
    file = FeatureFile(path, tried=True)
    for start in range(0, file.n_tiles, _STRETCH):
        file.rows(np.arange(start, min(start + _STRETCH, file.n_tiles)))
    return file.n_tiles


def main() -> None:
    """The child's work: read the file, and no more."""
    run_under_limits(lambda arguments: str(_read_all(Path(arguments[0]))))
