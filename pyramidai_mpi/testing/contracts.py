"""Contract tests for whoever adds a slide reader, an engine or an export: call them from a test of your own.

Each function raises AssertionError with the claim that does not hold. What they ask is what the rest of the program
relies on, not more; the protocols say it in words (`slides.readers.base`, `models.engines.base`, `export.formats`).

>>> check_reader(lambda: MyReader(path))  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyramidai_mpi.base.errors import OutputExistsError, PyramidError
from pyramidai_mpi.base.odd_levels import OWN
from pyramidai_mpi.slides.readers.base import MISSING, THERE, UnreadableRegionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray
    from pyramidai_mpi.models.engines.base import Engine
    from pyramidai_mpi.slides.readers.base import SlideInfo, SlideReader

Region: TypeAlias = tuple[tuple[int, int], int, tuple[int, int]]
"""Arguments of `SlideReader.read`: corner in level-0 pixels, stored level, size."""

_SIDE = 64


def _claim(holds: bool | np.bool_, claim: str) -> None:
    if not holds:
        raise AssertionError(claim)


def check_reader(open_reader: Callable[[], SlideReader]) -> None:
    """Check a reader on a sound slide of at least 128 x 128 pixels in which every pixel is readable and none is white.

    Parameters
    ----------
    open_reader
        Opens the slide anew.
    """
    reader = open_reader()
    _check_info(reader.info)
    for level in range(len(reader.info.stored_sizes)):
        _check_pixels(reader, level)
        _check_what_is_outside(reader, level)
    first = reader.read((0, 0), 0, (_SIDE, _SIDE))
    other = open_reader()
    _claim(np.array_equal(other.read((0, 0), 0, (_SIDE, _SIDE)), first), "a slide opened again has the same pixels")
    reader.close()
    _claim(np.array_equal(other.read((0, 0), 0, (_SIDE, _SIDE)), first), "to close one reader closes no other")
    other.close()
    other.close()  # a second time does nothing


def _check_info(info: SlideInfo) -> None:
    n = len(info.stored_sizes)
    _claim(n >= 1, "there is a stored level")
    _claim(len(info.stored_downsamples) == len(info.stored_exact) == n, "every stored level is described")
    is_level_0 = info.l0_size == info.stored_sizes[0] and info.stored_downsamples[0] == 1
    _claim(is_level_0 or bool(info.patches_digest), "stored level 0 is level 0, but of a file of patches")
    _claim(list(info.stored_downsamples) == sorted(info.stored_downsamples), "stored levels come finest first")
    _claim(info.mpp is None or 0 < info.mpp < float("inf"), "the spacing is a number above 0, or None")
    _claim(bool(info.vendor) and bool(info.reader), "vendor and reader have names")
    for size, downsample, exact in zip(info.stored_sizes, info.stored_downsamples, info.stored_exact, strict=True):
        off = max(abs(side * downsample - l0_side) for side, l0_side in zip(size, info.l0_size, strict=True))
        _claim(off < downsample + 1e-9, f"{size} is {info.l0_size} divided by {downsample}, up to a pixel")
        _claim(not exact or off == 0 or info.odd_levels == OWN, f"an exact level of size {size} has no remainder")


def _check_pixels(reader: SlideReader, level: int) -> None:
    width, height = (min(side, _SIDE) for side in reader.info.stored_sizes[level])
    size = (width, height - 1)  # width and height differ, so that neither is taken for the other
    pixels = reader.read((0, 0), level, size)
    _claim(pixels.shape == (size[1], size[0], 3) and pixels.dtype == np.uint8, "pixels are uint8 (height, width, 3)")
    before = pixels.copy()
    reader.expect((0, 0), level, size)
    _claim(np.array_equal(reader.read((0, 0), level, size), before), "a region has the same pixels each time")
    part = reader.read((0, 0), level, (width // 2, height // 2))
    _claim(np.array_equal(part, before[: height // 2, : width // 2]), "a part of a region has the region's pixels")
    same, known = reader.read_what_is_there((0, 0), level, size)
    _claim(known.shape == (size[1], size[0]) and known.dtype == np.uint8, "what is known is uint8 (height, width)")
    _claim((known == THERE).all() and np.array_equal(same, before), "of a sound slide all is there, and as `read` says")
    part[:] = 0
    _claim(np.array_equal(pixels, before), "pixels belong to the caller")


def _check_what_is_outside(reader: SlideReader, level: int) -> None:
    info = reader.info
    step = int(info.stored_downsamples[level])
    size = (8, 8)
    beyond = (info.l0_size[0] + 16 * step, info.l0_size[1] + 16 * step)
    for corner in (beyond, (-16 * step, -16 * step)):
        reader.expect(corner, level, size)
        _claim((reader.read(corner, level, size) == 255).all(), "outside the slide all is white")
    across = reader.read((-8 * step, 0), level, (16, 8))
    _claim((across[:, :8] == 255).all(), "what lies outside the slide is white, also in part of a region")
    if info.stored_exact[level]:
        inside = reader.read((0, 0), level, size)
        _claim(np.array_equal(across[:, 8:], inside), "a region half outside has the slide's pixels in the other half")


def check_reader_on_damage(open_reader: Callable[[], SlideReader], damaged: Region, sound: Region) -> None:
    """Check a reader on a slide in which some pixel of `damaged` cannot be had, and all of `sound` can."""
    reader = open_reader()
    try:
        before = reader.read(*sound)
        for _ in range(2):
            try:
                reader.read(*damaged)
            except UnreadableRegionError as reason:
                _claim(bool(str(reason)), "an unreadable region has a reason")
            else:
                raise AssertionError("a region that cannot be had is unreadable, each time it is asked for")
            _claim(np.array_equal(reader.read(*sound), before), "after an unreadable region the reader goes on")
        reader.expect(*damaged)
        _, known = reader.read_what_is_there(*damaged)
        _claim((known == MISSING).any(), "`read_what_is_there` says what is missing, and does not raise")
        _claim(np.array_equal(reader.read(*sound), before), "after a look at what is there the reader goes on")
    finally:
        reader.close()


def check_engine(
    engine: Engine, tiles: RgbArray, n_classes: int, positions: npt.NDArray[np.float32] | None = None
) -> None:
    """Check an engine on tiles uint8 (n, T, T, 3), n at least 3, all different from each other.

    If it sees positions, float32 (n, 2) of these tiles are needed, too.
    """
    before = tiles.copy()

    def at(places: Any) -> npt.NDArray[np.float32] | None:
        return positions[places] if positions is not None else None

    _claim(engine.sees_position == (positions is not None), "an engine says whether it sees positions")
    probabilities, features = engine.predict(tiles, positions=at(np.s_[:]))
    _claim(features is None, "features come only when they are asked for")
    _claim(probabilities.dtype == np.float32, "probabilities are float32")
    _claim(probabilities.shape == (len(tiles), n_classes), "probabilities are (n, classes)")
    _claim((probabilities >= 0).all() and (probabilities <= 1).all(), "probabilities lie in [0, 1]")
    _claim(np.array_equal(tiles, before), "the tiles are not changed")
    kept = probabilities.copy()

    _claim(
        _same_bits(engine.predict(tiles[::-1], positions=at(np.s_[::-1]))[0][::-1], kept),
        "a tile's place in a batch does not matter",
    )
    one_by_one = np.concatenate(
        [engine.predict(tile[None], positions=at(np.s_[n : n + 1]))[0] for n, tile in enumerate(tiles)]
    )
    _claim(_same_bits(one_by_one, kept), "a tile alone has the same probabilities as among others")
    count = 2 * engine.batch_shape + 1
    again_and_again = np.resize(np.arange(len(tiles)), count)
    many = engine.predict(tiles[again_and_again], positions=at(again_and_again))[0]
    _claim(_same_bits(many, np.resize(kept, (count, n_classes))), "more tiles than a batch change nothing")
    _claim(_same_bits(probabilities, kept), "what was returned stays as it is")
    _claim(
        engine.predict(tiles[:0], positions=at(np.s_[:0]))[0].shape == (0, n_classes), "no tiles have no probabilities"
    )

    asked, features = engine.predict(tiles, features=True, positions=at(np.s_[:]))
    _claim(_same_bits(asked, kept), "asking for features does not change the probabilities")
    if not engine.n_features:
        _claim(features is None, "a network without features gives none")
        return
    if features is None:
        raise AssertionError("features come when they are asked for")
    _claim(features.dtype == np.float32, "features are float32")
    _claim(features.shape == (len(tiles), engine.n_features), "features are (n, n_features)")
    again = engine.predict(tiles[::-1], features=True, positions=at(np.s_[::-1]))[1]
    _claim(again is not None and _same_bits(again[::-1], features), "a tile's place does not change its features")


def _same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


def check_export(export: Callable[[Path, Path, bool], None], result: Path, damaged: Path, folder: Path) -> None:
    """Check an export to one file or folder.

    Parameters
    ----------
    export
        Called with a result file, the target and whether to overwrite it.
    result
        A sound result file.
    damaged
        A file that is no sound result: the export of it fails.
    folder
        Empty, for this check alone.
    """
    target = folder / "made"
    _check_failed_export(export, damaged, target, overwrite=False)
    _claim(not list(folder.iterdir()), "a failed export leaves nothing behind")
    export(result, target, False)
    _claim([path.name for path in folder.iterdir()] == [target.name], "an export makes its target and nothing else")
    made = _contents(target)
    _claim(bool(made), "an export writes something")
    try:
        export(result, target, False)
    except OutputExistsError:
        pass
    else:
        raise AssertionError("an existing target is refused")
    _claim(_contents(target) == made, "a refused target stays as it is")
    _check_failed_export(export, damaged, target, overwrite=True)
    _claim(_contents(target) == made, "a failed export leaves the older one as it is")
    export(result, target, True)
    _claim(_contents(target).keys() == made.keys(), "an existing target is replaced when that is asked for")
    _claim([path.name for path in folder.iterdir()] == [target.name], "after replacing nothing else is left")


def _check_failed_export(
    export: Callable[[Path, Path, bool], None], damaged: Path, target: Path, *, overwrite: bool
) -> None:
    try:
        export(damaged, target, overwrite)
    except PyramidError:
        return
    raise AssertionError("an export of a damaged result fails with an error that says what to do")


def _contents(target: Path) -> dict[str, bytes]:
    """Bytes of a file, or of all files of a folder, by their names."""
    if target.is_file():
        return {"": target.read_bytes()}
    return {str(path.relative_to(target)): path.read_bytes() for path in target.rglob("*") if path.is_file()}
