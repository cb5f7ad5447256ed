"""What slides are called, in folders and in tables."""

from __future__ import annotations

from pathlib import PurePath

SLIDE_ENDINGS = (".bif", ".czi", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".tif", ".tiff", ".vms", ".vmu")
"""What counts as a slide in a folder, without regard to case. A DICOM slide is a folder of its own, or is given by one
of its files. A PNG or JPEG is given by name: beside slides it is mostly a picture of one."""

_OTHER_ENDINGS = (
    ".bmp", ".csv", ".dcm", ".geojson", ".h5", ".hdf5", ".isyntax", ".jp2", ".jpeg", ".jpg", ".json", ".npy", ".npz",
    ".ome", ".patches", ".png", ".pt", ".qptiff", ".vsi", ".xml", ".zarr",
)  # fmt: skip
"""Of other pictures, and of files about slides that tables name in their place."""


def bare_name(name: str) -> str:
    """A slide's name without folders, endings of files and case; a dot of its own, as in ``A.1``, is no ending."""
    found = PurePath(name).name.casefold()
    while (path := PurePath(found)).suffix in (*SLIDE_ENDINGS, *_OTHER_ENDINGS):
        found = path.stem
    return found
