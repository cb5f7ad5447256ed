"""What a reader of slides must offer, whatever library is behind it."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from pyramidai_mpi.base.csv_reading import was_utf8
from pyramidai_mpi.base.errors import InputError, input_errors

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray


MISSING, THERE, LEFT_OUT = 0, 1, 2
"""What is known of a pixel; see `SlideReader.read_what_is_there`."""


class UnreadableRegionError(Exception):
    """Pixels inside the slide that could not be had; the text is the reason."""


@dataclass(frozen=True)
class SlideInfo:
    """A slide's description.

    Attributes
    ----------
    path
        The file.
    vendor
        OpenSlide's name of the format.
    l0_size
        Width and height in level-0 pixels.
    stored_sizes
        Width and height of every stored level, finest first. That is level 0 but in a file of patches, which may keep
        another one.
    stored_downsamples
        Nominal level-0 pixels per pixel of every stored level (see `spacing.nominal_downsample`).
    stored_exact
        For every stored level, whether what is read are its own pixels, of which number k begins at level-0 pixel k
        times the nominal downsample. Others are interpolated by OpenSlide (see `odd_levels`).
    mpp
        µm per level-0 pixel, or None when the file does not say, or says nonsense.
    l0_bounds
        x, y of the non-empty region's corner (``openslide.bounds-x``, ``-y``), (0, 0) when the file does not say.
    reader
        What decodes its pixels: ``openslide``; ``tiff``, which leaves to OpenSlide what it cannot read exactly; or
        ``image``; or ``patches``, of the stored tiles that a file of patches keeps.
    mpp_flaw
        What is wrong with what the file says of its µm/px; empty for nothing.
    levels_in_file
        Number of each stored level as OpenSlide counts them; empty where all that it counts are levels.
    no_levels
        Width and height of those that are none of this slide: pictures of the label, of the glass, of something else.
    openslide_quickhash1
        OpenSlide's own hash of the slide (``openslide.quickhash-1``), by which other programs know it; None where
        OpenSlide makes none, as of pictures.
    patches_digest
        Digest of the file of patches that stands for the slide. It keeps a part of one stored level: what it does not
        keep is unreadable, and no tissue. Empty for a slide itself.
    slide_name
        File name of the slide that such a file stands for; empty for a slide itself.
    odd_levels
        ``own`` where there are levels whose size is level 0's divided by a whole number and rounded, and their own
        pixels are read (see `slides.spacing`); else empty.
    """

    path: Path
    vendor: str
    l0_size: tuple[int, int]
    stored_sizes: tuple[tuple[int, int], ...]
    stored_downsamples: tuple[float, ...]
    stored_exact: tuple[bool, ...]
    mpp: float | None
    l0_bounds: tuple[int, int]
    reader: str = "openslide"
    mpp_flaw: str = ""
    levels_in_file: tuple[int, ...] = ()
    no_levels: tuple[tuple[int, int], ...] = ()
    openslide_quickhash1: str | None = None
    patches_digest: str = ""
    slide_name: str = ""
    odd_levels: str = ""

    @property
    def n_in_file(self) -> int:
        """How many levels OpenSlide finds."""
        return len(self.stored_sizes) + len(self.no_levels)

    def level_in_file(self, stored_level: int) -> int:
        """OpenSlide's number of a stored level."""
        return self.levels_in_file[stored_level] if self.levels_in_file else stored_level

    @property
    def name(self) -> str:
        """The slide's file name without folders."""
        return self.slide_name or self.path.name


@dataclass(frozen=True)
class ClosedReader:
    """Stands for a slide that another rank reads: its description without its pixels."""

    info: SlideInfo

    def read(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray:
        """See `SlideReader.read`."""
        raise UnreadableRegionError(f"{self.info.name} is not open here")

    def read_what_is_there(
        self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """See `SlideReader.read_what_is_there`."""
        raise UnreadableRegionError(f"{self.info.name} is not open here")

    def expect(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        """See `SlideReader.expect`."""

    def close(self) -> None:
        """Nothing is open."""


class SlideReader(Protocol):
    """Pixels of one slide. Used by one thread at a time, but for `expect`."""

    @property
    def info(self) -> SlideInfo:
        """The slide's description."""
        ...

    def read(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> RgbArray:
        """Pixels of a stored level, shape (height, width, 3); what lies outside the slide is white.

        Parameters
        ----------
        l0_corner
            x, y of the top-left corner in level-0 pixels; may lie outside the slide.
        stored_level
            Level of the file.
        size
            Width and height in pixels of that level.

        Raises
        ------
        UnreadableRegionError
            When any pixel inside the slide cannot be had, or all of them were left out. Where only some were, they are
            white. The reader can be used on afterwards.
        """
        ...

    def read_what_is_there(
        self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]
    ) -> tuple[RgbArray, npt.NDArray[np.uint8]]:
        """Like `read`, without raising: pixels, and for each, uint8 (height, width), one of these.

        `THERE`; `MISSING`: could not be had; `LEFT_OUT`: not scanned, by the account of a format that leaves out areas,
        or not kept, by that of a file of patches.
        """
        ...

    def expect(self, l0_corner: tuple[int, int], stored_level: int, size: tuple[int, int]) -> None:
        """Have the system fetch what a `read` of this region will need, without waiting for it; from any thread."""
        ...

    def close(self) -> None:
        """Release the file; a second time does nothing."""
        ...


def check_can_be_opened(path: Path) -> None:
    """See that a slide is there, and is no pipe, which nobody may ever write to.

    Raises
    ------
    InputError
        When it is not, or may not be read: libraries would say that it is no slide.
    """
    with input_errors(path):
        exists = path.exists()
    if not exists:
        hint = "check the path" if was_utf8(str(path)) else "its name is no UTF-8: save a table as CSV UTF-8"
        raise InputError(f"{path}: no such slide; {hint}")
    if not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is no file; check the path")
    with input_errors(path), path.open("rb") if path.is_file() else nullcontext():
        pass
