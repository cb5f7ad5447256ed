"""Reading CLAM's and TRIDENT's files of coordinates, which are HDF5 of somebody else's."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pyramidai_mpi.base.errors import InputError, failed_read, input_errors
from pyramidai_mpi.process.sandbox import Trial, run_under_limits
from pyramidai_mpi.slides.spacing import MOST_SOURCE_PIXELS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.slides.readers.base import SlideInfo

_SECONDS = 60
_MEMORY_BYTES = 8 << 30
_MOST_ROWS = 1 << 26
_FARTHEST = 1 << 31
_LARGEST_SIDE = 1 << 14
_NUMBERS = (
    *("patch_size", "patch_level", "custom_downsample"),
    *("patch_size_level0", "level0_magnification", "target_magnification", "overlap", "level0_width", "level0_height"),
)
_COMPOUND = re.compile(r"\.ome\.(tiff?|zarr)$", re.IGNORECASE)


@dataclass(frozen=True)
class Coordinates:
    """What such a file says.

    Attributes
    ----------
    path
        The file.
    l0_corners
        int64 (N, 2): l0_x, l0_y of top-left corners.
    numbers
        Those of its attributes that are numbers, by name.
    level_dim
        Width and height of the stored level, where CLAM says them.
    """

    path: Path
    l0_corners: npt.NDArray[np.int64]
    numbers: Mapping[str, float]
    level_dim: tuple[int, int] | None


@dataclass(frozen=True)
class PatchGeometry:
    """How large patches are and what of a slide they are read from.

    Attributes
    ----------
    size
        Side of a patch in its own pixels.
    overlap
        Pixels that neighbours share; 0 where nothing is said of it.
    downsample
        Level-0 pixels per pixel of a patch.
    stored_level, stored_downsample
        Level that they are read from, and its level-0 pixels per pixel.
    source_size
        Side of what is read, in pixels of that level: `size` where nothing is resampled.
    """

    size: int
    overlap: int
    downsample: float
    stored_level: int
    stored_downsample: float
    source_size: int

    @property
    def ratio(self) -> float:
        """Pixels of the stored level per pixel of a patch."""
        return self.downsample / self.stored_downsample


def coordinate_files(path: Path) -> list[Path]:
    """The files that a word of the command line means: itself, or those of a folder or of ``patches`` in it, by name.

    Raises
    ------
    InputError
        When there is none.
    """
    if not path.is_dir():
        return [path]
    for folder in (path, path / "patches"):
        if folder.is_dir():
            with input_errors(folder):
                found = sorted(one for one in folder.iterdir() if one.suffix == ".h5" and not one.name.startswith("."))
            if found:
                return found
    raise InputError(f"{path}: holds no file of coordinates; looked for *.h5 and patches/*.h5")


def slide_name(path: Path) -> str:
    """Name without ending of the slide that a file of coordinates is of: CLAM and TRIDENT tell it by the file's."""
    return path.stem.removesuffix("_patches")


def slide_called(name: str, slides: Sequence[Path], path: Path) -> Path:
    """The slide of that name without its ending, also as TRIDENT takes endings off.

    Raises
    ------
    InputError
        When there is none, or more than one.
    """
    found = [slide for slide in slides if name in {slide.stem, _COMPOUND.sub("", slide.name)}]
    if not found:
        raise InputError(f"{path}: there is no slide called {name} among the {len(slides)} of --slides")
    if len(found) > 1:
        raise InputError(
            f"{path}: is of one slide called {name}, and there are {len(found)}; give that one to --slides"
        )
    return found[0]


def read_coordinates(path: Path) -> Coordinates:
    """Read a file of coordinates, once a child process has: HDF5 may crash or hang on a damaged one.

    Raises
    ------
    InputError
        When it cannot be read, or holds no coordinates.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file of coordinates; check the path")
    module = "pyramidai_mpi.patches.formats.foreign_coordinates"
    with Trial(path, module, [os.fspath(path)], seconds=_SECONDS, memory_bytes=_MEMORY_BYTES) as trial:
        trial.check()
    return _read(path)


def _read(path: Path) -> Coordinates:
    try:
        with h5py.File(path, "r") as file:
            # nothing that leads out of the file: HDF5 follows links into others, and reads any as numbers
            is_own = isinstance(file.get("coords", getlink=True), h5py.HardLink)
            table = file.get("coords") if is_own else None
            if not isinstance(table, h5py.Dataset) or table.external or table.is_virtual:
                raise InputError(f"{path}: holds no coords, as CLAM's and TRIDENT's files of coordinates do")
            if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "iuf" or len(table) > _MOST_ROWS:
                raise InputError(f"{path}: its coords are {table.dtype} {table.shape}, expected numbers (N, 2)")
            found = table[()]
            numbers = {name: number for name in _NUMBERS if (number := _number(table.attrs.get(name))) is not None}
            level_dim = _pair(table.attrs.get("level_dim"))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise failed_read(path, error) or InputError(
            f"{path}: not a readable HDF5 file: {' '.join(str(error).split())[:200]}"
        ) from error
    corners = np.asarray(found, np.float64)
    if not (np.isfinite(corners).all() and (np.abs(corners) < _FARTHEST).all() and (corners % 1 == 0).all()):
        raise InputError(f"{path}: holds coordinates that are no pixels of a slide")
    strange = [f"{name} {number:g}" for name, number in numbers.items() if not math.isfinite(number)]
    if strange:
        raise InputError(f"{path}: says {', '.join(strange)}, which is no number; nobody knows what it was made of")
    return Coordinates(path, corners.astype(np.int64), numbers, level_dim)


def _number(value: Any) -> float | None:
    array = np.asarray(value)
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iuf" else None


def _pair(value: Any) -> tuple[int, int] | None:
    array = np.asarray(value)
    if array.shape != (2,) or array.dtype.kind not in "iuf":
        return None
    if not (np.isfinite(array).all() and (array % 1 == 0).all()):
        raise ValueError(f"level_dim {array[0]:g} x {array[1]:g}, which is no size of a level")
    return int(array[0]), int(array[1])


def clam_geometry(found: Coordinates, info: SlideInfo) -> PatchGeometry:
    """What CLAM reads for each: ``patch_size`` pixels of the stored level ``patch_level``, as they are.

    Raises
    ------
    InputError
        When the file does not say so, or says what this slide has not.
    """
    size, level_in_file = (_whole(found, name, least) for name, least in (("patch_size", 1), ("patch_level", 0)))
    if found.numbers.get("custom_downsample", 1) != 1:
        raise InputError(f"{found.path}: says custom_downsample, with which CLAM resamples; only CLAM knows how")
    numbers = [info.level_in_file(n) for n in range(len(info.stored_sizes))]  # CLAM counts as OpenSlide does
    if level_in_file not in numbers:
        raise InputError(f"{found.path}: is of stored level {level_in_file}, which {info.path} has not")
    level = numbers.index(level_in_file)
    if found.level_dim not in {None, info.stored_sizes[level]}:
        raise _another_slide(found, info, found.level_dim, info.stored_sizes[level])
    downsample = info.stored_downsamples[level]
    return PatchGeometry(size, 0, downsample, level, downsample, size)


def trident_geometry(found: Coordinates, info: SlideInfo) -> PatchGeometry:
    """What TRIDENT reads for each: ``patch_size`` pixels at ``target_magnification``, from the next finer stored level.

    Raises
    ------
    InputError
        As `clam_geometry`; and when patches are finer than the slide.
    """
    size = _whole(found, "patch_size", 1)
    powers = [found.numbers.get(name, 0) for name in ("level0_magnification", "target_magnification")]
    if min(powers) <= 0:
        raise InputError(
            f"{found.path}: does not say level0_magnification and target_magnification, as TRIDENT's files do; if it "
            "is CLAM's, use --clam"
        )
    downsample = powers[0] / powers[1]
    if downsample < 1:
        raise InputError(f"{found.path}: its patches are enlarged {1 / downsample:.3g} times, which is not done here")
    said = found.numbers.get("patch_size_level0")
    if said is not None and abs(said - size * downsample) > 1:
        raise InputError(
            f"{found.path}: says patch_size_level0 {said:g}, where its magnifications make {size * downsample:g}"
        )
    l0_size = tuple(int(found.numbers.get(name, -1)) for name in ("level0_width", "level0_height"))
    if -1 not in l0_size and l0_size != info.l0_size:
        raise _another_slide(found, info, l0_size, info.l0_size)
    level = max(n for n, each in enumerate(info.stored_downsamples) if each <= downsample * (1 + 1e-9))
    stored = info.stored_downsamples[level]
    if size * downsample / stored > MOST_SOURCE_PIXELS:
        raise InputError(
            f"{found.path}: a patch takes {size * downsample / stored:.6g} pixels a side of stored level {level} of "
            f"{info.path}, its coarsest; {MOST_SOURCE_PIXELS} can be read"
        )
    overlap = found.numbers.get("overlap", 0)
    return PatchGeometry(
        size,
        int(overlap) if 0 <= overlap < size else 0,
        stored if abs(stored / downsample - 1) < 1e-6 else downsample,
        level,
        stored,
        round(size * downsample / stored),
    )


def _whole(found: Coordinates, name: str, least: int) -> int:
    number = found.numbers.get(name)
    if number is None or number % 1 or not least <= number <= _LARGEST_SIDE:
        said = "does not say" if number is None else "says a strange"
        raise InputError(f"{found.path}: {said} {name}, without which nobody knows what its coordinates are of")
    return int(number)


def _another_slide(found: Coordinates, info: SlideInfo, said: Any, has: tuple[int, int]) -> InputError:
    return InputError(
        f"{found.path}: was made of a slide of {said[0]} x {said[1]} px, where {info.path} has {has[0]} x {has[1]}; "
        "give the slide that it was made of"
    )


def main() -> None:
    """The child's work: read the file, and no more."""
    run_under_limits(lambda arguments: str(len(_read(Path(arguments[0])).l0_corners)))
