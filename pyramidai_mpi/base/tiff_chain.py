"""The pages of a TIFF file that tifffile has opened, as far as its chain of directories does not turn back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_PAGES = 1000


def pages_in_chain(tiff: Any) -> Iterator[Any]:
    """Pages of a `tifffile.TiffFile`, in the file's order; tifffile itself follows a chain that leads back for ever.

    Where it leads back, or after 1000 pages, there are no more, as for libtiff and for `slides.readers.tiff_directory`.
    """
    seen: set[int] = set()
    for page in tiff.pages:
        if page.offset in seen or len(seen) == _MOST_PAGES:
            return
        seen.add(page.offset)
        yield page
