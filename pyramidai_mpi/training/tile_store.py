"""Labelled tiles on disk: drawn once of each slide by whichever rank, read from then on by all.

The folder must be one that all ranks see, on whatever hosts they are.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
import zipfile
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pyramidai_mpi.base.damage import DAMAGE
from pyramidai_mpi.base.errors import InputError, StorageError, failed_read, own_file_errors
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.ranks.collectives import agree_on, share_bytes
from pyramidai_mpi.store.files.placing import discard, temporary_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.ranks.unit_pool import UnitPool

_MOST_OPEN = 64
"""Files of pixels that are mapped at a time."""
_PATIENCE_S = 60.0
"""For how long another host's new file may stay unseen: network file systems remember that there was none."""


@dataclass(frozen=True)
class LabelledTiles:
    """Tiles of one level and split.

    Attributes
    ----------
    pixels
        uint8 (N, T, T, 3): an array, or `StoredPixels`.
    positive
        bool (N,), whether the tile is of the positive class.
    mark
        Short hash of what they were drawn of and by.
    position
        float32 (N, 2): each tile's centre x, y over the slide's width and height; NaN where it is not known.
    """

    pixels: RgbArray | StoredPixels
    positive: npt.NDArray[np.bool_]
    mark: str = ""
    position: npt.NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.positive)


@dataclass(frozen=True)
class DrawnTiles:
    """Tiles of one slide and level, as they are drawn.

    Attributes
    ----------
    pixels
        uint8 (n, T, T, 3).
    positive
        bool (n,).
    position
        float32 (n, 2), see `LabelledTiles`.
    """

    pixels: RgbArray
    positive: npt.NDArray[np.bool_]
    position: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """What tiles are drawn of: a slide, or a file of patches.

    Attributes
    ----------
    path
        The file.
    mark
        Short hash of it and of how tiles are drawn of it.
    """

    path: Path
    mark: str

    def file(self, folder: Path, ending: str) -> Path:
        """A file of its tiles."""
        stem = re.sub(r"[^\w.-]", "_", self.path.name)[:80]
        return folder / f"{stem}-{self.mark}{ending}"


class Draws(Protocol):
    """Something that draws labelled tiles."""

    def sources(self, slides: Sequence[Path]) -> list[Source]:
        """What tiles are drawn of."""
        ...

    def draw_one(self, source: Source) -> list[DrawnTiles]:
        """Tiles of one of them for every level, level 0 first."""
        ...


def _same_on_all(pool: UnitPool, material: Draws, paths: Sequence[Path]) -> list[Source]:
    """The sources as rank 0 sees them: clocks of hosts' disks may differ."""
    found = pool.on_rank0(lambda: material.sources(paths))
    if pool.comm is None:
        return found or []
    text = None if found is None else json.dumps([source.mark for source in found]).encode()
    return [Source(path, mark) for path, mark in zip(paths, json.loads(share_bytes(pool.comm, text)), strict=True)]


class TileStore:
    """The tiles of some slides at every level.

    Parameters
    ----------
    folder
        Where they lie.
    n_levels
        How many levels there are.
    """

    def __init__(self, folder: Path, n_levels: int) -> None:
        self._folder, self._n_levels = folder, n_levels
        self._drawn: dict[Path, tuple[Source, list[npt.NDArray[np.bool_]], list[npt.NDArray[np.float32]]]] = {}

    def draw(self, pool: UnitPool, material: Draws, paths: Sequence[Path]) -> None:
        """Draw tiles of what has none yet. Collective: each slide's are drawn by one rank.

        Parameters
        ----------
        pool
            The ranks.
        material
            Draws them.
        paths
            What they are drawn of.

        Raises
        ------
        InputError
            When a slide cannot be read, or a host does not see the folder that the others write to.
        StorageError
            When tiles cannot be written.
        PoolStoppedError
            When the ranks were told to stop; what was drawn stays.
        """
        pool.on_rank0(self._make_folder)
        sources = _same_on_all(pool, material, paths)

        def work(number: int) -> None:
            if not sources[number].file(self._folder, ".npz").exists():
                self._keep(sources[number], material.draw_one(sources[number]))

        pool.do(len(sources), work)
        pool.on_all(lambda: self._read(sources))
        if pool.comm is not None:
            agree_on(pool.comm, self._fingerprint(sources), f"what lies in {self._folder}")

    def of(self, paths: Sequence[Path], level: int, seed: int, *, balanced: bool = True) -> LabelledTiles:
        """Tiles of some slides at a level.

        Parameters
        ----------
        seed
            Of the choice where one class has more tiles.
        balanced
            Equally many of both classes; else all that were drawn.

        Raises
        ------
        InputError
            When a class has none.
        """
        drawn = [self._drawn[path] for path in paths]
        positive = np.concatenate([labels[level] for _, labels, _ in drawn])
        position = np.concatenate([positions[level] for _, _, positions in drawn])
        kept = rows_of_both(positive, np.random.default_rng([seed, level]), balanced=balanced)
        if not len(kept):
            raise InputError(f"{'all' if positive.any() else 'none'} of the {len(positive)} tiles are positive")
        lengths = [len(labels[level]) for _, labels, _ in drawn]
        file, row = _places(lengths, kept)
        files = [source.file(self._folder, f"-level{level}.npy") for source, _, _ in drawn]
        facts = f"{level} {balanced} {seed} {[source.mark for source, _, _ in drawn]}"
        mark = hashlib.sha256(facts.encode()).hexdigest()[:12]
        return LabelledTiles(StoredPixels(files, file, row), positive[kept], mark, position[kept])

    def _keep(self, source: Source, levels: Sequence[DrawnTiles]) -> None:
        """Write pixels, then labels: the labels' file says that all are whole."""
        try:
            for level, tiles in enumerate(levels):
                with _written(source.file(self._folder, f"-level{level}.npy")) as path:
                    np.save(path, tiles.pixels)
            of_levels: dict[str, npt.NDArray[np.generic]] = {
                f"positive{level}": tiles.positive for level, tiles in enumerate(levels)
            }
            of_levels |= {f"position{level}": tiles.position for level, tiles in enumerate(levels)}
            with _written(source.file(self._folder, ".npz")) as path:
                np.savez(path, **of_levels)  # type: ignore[arg-type]
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot keep tiles: {error.strerror or error}; make room") from error

    def _make_folder(self) -> None:
        try:
            self._folder.mkdir(exist_ok=True)  # in that of the work, which is there, or has gone
        except OSError as error:
            raise StorageError(f"{self._folder}: cannot be made: {error.strerror or error}") from error

    def _read(self, sources: Sequence[Source]) -> None:
        for source in sources:
            path = source.file(self._folder, ".npz")
            until = time.monotonic() + _PATIENCE_S
            while not path.exists():
                if time.monotonic() > until:
                    raise InputError(
                        f"{path}: host {host_name()} does not see what another rank has written; --work must be a "
                        "folder that all hosts share"
                    )
                next(path.parent.iterdir(), None)  # asks the server anew
                time.sleep(0.5)
            with _undamaged(path):
                _check_claims(path)
            with _undamaged(path), np.load(path) as found:
                labels = [found[f"positive{level}"] for level in range(self._n_levels)]
                positions = [found[f"position{level}"] for level in range(self._n_levels)]
                for positive, position in zip(labels, positions, strict=True):
                    if positive.dtype != bool or positive.ndim != 1 or position.shape != (len(positive), 2):
                        raise ValueError(f"labels of {positive.dtype} {positive.shape}, positions of {position.shape}")
                self._drawn[source.path] = source, labels, positions

    def _fingerprint(self, sources: Sequence[Source]) -> bytes:
        digest = hashlib.sha256()
        for source in sources:
            _, labels, _ = self._drawn[source.path]
            digest.update(source.mark.encode() + b"".join(of_level.tobytes() for of_level in labels))
        return digest.digest()


class StoredPixels:
    """Rows of several files as one array, uint8 (N, T, T, 3), that lies on disk.

    Parameters
    ----------
    files
        Files of numpy arrays.
    file, row
        int64 (N,): which file each tile lies in, and in which row.
    """

    def __init__(self, files: Sequence[Path], file: npt.NDArray[np.int64], row: npt.NDArray[np.int64]) -> None:
        self._files, self._file, self._row = list(files), file, row
        self._open: OrderedDict[int, RgbArray] = OrderedDict()

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, rows: npt.NDArray[np.int64] | slice) -> RgbArray:
        """Some tiles, read now."""
        tiles = [self._tile(file, row) for file, row in zip(self._file[rows].tolist(), self._row[rows], strict=True)]
        return np.stack(tiles)

    def _tile(self, file: int, row: np.int64) -> RgbArray:
        mapped = self._mapped(file)
        with _undamaged(self._files[file]):
            pixels: RgbArray = mapped[row]
        return pixels

    def _mapped(self, file: int) -> RgbArray:
        mapped = self._open.pop(file, None)
        if mapped is None:
            with _undamaged(self._files[file]):
                mapped = np.load(self._files[file], mmap_mode="r")
                if mapped.dtype != np.uint8 or mapped.ndim != 4 or mapped.shape[3] != 3:
                    raise ValueError(f"holds {mapped.dtype} {mapped.shape} where tiles belong")
            if len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)
        self._open[file] = mapped
        return mapped


def rows_of_both(
    positive: npt.NDArray[np.bool_], rng: np.random.Generator, *, balanced: bool = True
) -> npt.NDArray[np.int64]:
    """Rows of both classes in order, equally many if `balanced`; none where one has none."""
    classes = [np.flatnonzero(positive), np.flatnonzero(~positive)]
    least = min(len(rows) for rows in classes)
    if not balanced:
        return np.arange(len(positive) if least else 0)
    return np.sort(np.concatenate([rng.permutation(rows)[:least] for rows in classes]))


def _places(lengths: Sequence[int], kept: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """File and row in it of rows of all files together."""
    ends = np.cumsum(lengths, dtype=np.int64)
    file = np.searchsorted(ends, kept, side="right").astype(np.int64)
    return file, kept - (ends - np.asarray(lengths, np.int64))[file]


def _check_claims(path: Path) -> None:
    """See that arrays of an ``.npz`` are no larger than the file: numpy makes room for what they claim.

    Raises
    ------
    ValueError
        One is.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            with archive.open(info) as member:
                is_first = np.lib.format.read_magic(member) == (1, 0)
                read = np.lib.format.read_array_header_1_0 if is_first else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(member)
            if math.prod(shape) * dtype.itemsize > size or info.file_size > size:
                raise ValueError(f"{info.filename} claims to be {dtype} {shape} in a file of {size} bytes")


@contextmanager
def _undamaged(path: Path) -> Iterator[None]:
    """Turn what numpy says of a file that lost its end, as on a disk that was full, into a line.

    Raises
    ------
    InputError, StorageError
        It cannot be read; its disk is to blame.
    """
    try:
        with own_file_errors(path):
            yield
    except DAMAGE as error:
        raise failed_read(path, error) or InputError(
            f"{path}: is damaged ({' '.join(str(error).split())[:100]}); delete the folder {path.parent}, for --resume "
            "to draw the same tiles again"
        ) from error


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """Give another name to write to first, with the same ending, which numpy would add; a kill leaves no half file."""
    temporary = temporary_name(path)
    partial = temporary.with_name(f"{temporary.name}{path.suffix}")
    try:
        yield partial
        partial.replace(path)
    finally:
        discard(partial)
