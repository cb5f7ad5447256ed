"""Which TIFF pages hold the colours of a stained slide as this program reads them, and how others become such.

OpenSlide and libtiff turn nearly everything into RGB and say nothing: of grey they make three equal channels, of three
channels that nobody called red, green and blue three times the first, a fourth one they take for transparency, and a
turned page comes out scrambled. A network sees nonsense in all of these, so they are refused, in one line that says
what the file is and how to convert it.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy as np
    import numpy.typing as npt

    from pyramidai_mpi.slides.readers.tiff_directory import TiffPage

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6  # photometric interpretations
_OTHER_COLOURS = {5: "CMYK", 8: "CIELab", 9: "ICCLab", 10: "ITULab", 32844: "LogL", 32845: "LogLuv"}
_UNSIGNED, _VOID = 1, 4  # sample formats
_NUMBERS = {2: "signed whole", 3: "floating-point", 5: "complex", 6: "complex"}
_UPRIGHT = {0, 1}  # 0 is none of TIFF's, and written by programs that mean 1
# By TIFF's number of the orientation: whether rows are columns, and the direction of rows and columns then.
_TURNS = {2: (0, 1, -1), 3: (0, -1, -1), 4: (0, -1, 1), 5: (1, 1, 1), 6: (1, 1, -1), 7: (1, -1, -1), 8: (1, -1, 1)}
_UNSUPPORTED = re.compile(r"Unsupported TIFF compression: (\d+)")
_STACKED = "a = numpy.dstack([%s] * 3)"


def obstacle(page: TiffPage, pages: Sequence[TiffPage], *, may_be_turned: bool = False, unreadable: str = "") -> str:
    """Why a page cannot be read as the colours of a slide, and how to convert it; empty where it can.

    Parameters
    ----------
    page
        The page in question.
    pages
        All pages of its file.
    may_be_turned
        Whether the reader turns pages upright.
    unreadable
        A reason besides that ends with the conversion.
    """
    if page.bits == 1:
        return "its pixels have one bit each and no colours of a stain; export the slide in colour"
    if page.photometric in _OTHER_COLOURS:
        return (
            f"its colours are {_OTHER_COLOURS[page.photometric]}, not RGB; convert it: "
            "vips colourspace IN.tif 'OUT.tif[tile,pyramid,compression=jpeg,Q=90]' srgb"
        )
    found = [(unreadable, ""), _channels(page, pages), _numbers(page), ("", "") if may_be_turned else _turned(page)]
    reasons = [reason for reason, _ in found if reason]
    return f"{', and '.join(reasons)}; convert it: {as_rgb(step for _, step in found)}" if reasons else ""


def larger_page(size: tuple[int, int], pages: Sequence[TiffPage]) -> str:
    """Why an image of a TIFF is not the slide: another page is larger; and how to get that. Empty where none is."""
    largest = max(pages, key=lambda page: math.prod(page.size), default=None)
    if largest is None or math.prod(largest.size) <= math.prod(size):
        return ""
    step = f"p = t.pages[{largest.number}]; a = p.asarray()"
    return (
        f"its page of {size[0]} x {size[1]} pixels stands where the slide belongs, but page {largest.number} has "
        f"{largest.size[0]} x {largest.size[1]}; save that one as a file of its own: {as_rgb([step])}"
    )


def turned_upright(pixels: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """A view of pixels (rows, columns, channels) as the orientation of their TIFF means them."""
    rows_are_columns, down, right = _TURNS.get(orientation, (0, 1, 1))
    return (pixels.swapaxes(0, 1) if rows_are_columns else pixels)[::down, ::right]


def unsupported_compression(said: str) -> str:
    """Which compression OpenSlide refuses, in words; empty where it said something else.

    Parameters
    ----------
    said
        OpenSlide's words.
    """
    found = _UNSUPPORTED.search(said)
    if found is None:
        return ""
    from tifffile import COMPRESSION

    code = int(found[1])
    name = COMPRESSION(code).name if code in set(COMPRESSION) else "a method that is not known here"
    return f"it is compressed with {name} (TIFF's number {code}), which OpenSlide cannot read"


def as_rgb(steps: Iterable[str] = ()) -> str:
    """Command that writes a TIFF that this program reads.

    Parameters
    ----------
    steps
        Statements that make the first page's array `a` three channels of 8 bits.
    """
    return (
        "python -c \"import numpy, tifffile; t = tifffile.TiffFile('IN.tif'); p = t.pages[0]; a = p.asarray(); "
        + "".join(f"{step}; " for step in steps if step)
        + "tifffile.imwrite('OUT.tif', a, photometric='rgb', planarconfig='contig', tile=(256, 256), "
        "compression='zlib', resolution=p.resolution, resolutionunit=p.resolutionunit)\""
    )


def _channels(page: TiffPage, pages: Sequence[TiffPage]) -> tuple[str, str]:
    """What is wrong with a page's channels, and the step that mends it."""
    first_three = "a = a[:3].transpose(1, 2, 0)" if page.is_planar else "a = a[..., :3]"
    in_place = "a = a.transpose(1, 2, 0)" if page.is_planar and page.samples > 1 else ""
    if page.photometric in {_RGB, _YCBCR, _PALETTE}:
        colours = 1 if page.photometric == _PALETTE else 3
        if page.samples == colours or (page.samples == colours + 1 and page.has_alpha):
            return "", in_place
        if page.samples < colours or colours == 1:
            return f"it has {page.samples} channels, which are no colours", in_place
        return f"it has {page.samples} channels, and does not say that the fourth is transparency", first_three
    if page.photometric not in {_WHITE_IS_ZERO, _BLACK_IS_ZERO}:
        return f"it does not say what its channels are (photometric interpretation {page.photometric})", in_place
    if page.samples >= 3:
        return f"it has {page.samples} channels that are not said to be red, green and blue", first_three
    alike = [one for one in pages if one.size == page.size and one.photometric == page.photometric]
    if len(alike) >= 3:
        return (
            f"it has {len(alike)} pages of grey values, as if one a channel, not said to be red, green and blue",
            "a = numpy.dstack([t.pages[i].asarray() for i in range(3)])",
        )
    return "it has grey values and no colours of a stain", _STACKED % _grey(page)


def _grey(page: TiffPage) -> str:
    if page.photometric == _BLACK_IS_ZERO:
        return "a"
    return "255 - a" if page.bits == 8 else "a.max() - a"


def _numbers(page: TiffPage) -> tuple[str, str]:
    if page.sample_format in {_UNSIGNED, _VOID} and page.bits == 8:
        return "", ""
    # its largest value becomes 255: cameras of 12 bits write 16
    return (
        f"its pixels are {_NUMBERS.get(page.sample_format, 'whole')} numbers of {page.bits} bits, not of 8",
        "a = (a * (255 / a.max())).round().astype('uint8')",
    )


def _turned(page: TiffPage) -> tuple[str, str]:
    if page.orientation in _UPRIGHT:
        return "", ""
    rows_are_columns, down, right = _TURNS.get(page.orientation, (0, 1, 1))
    return (
        f"it is stored turned or mirrored (orientation {page.orientation})",
        f"a = a{'.swapaxes(0, 1)' if rows_are_columns else ''}[::{down}, ::{right}]",
    )
