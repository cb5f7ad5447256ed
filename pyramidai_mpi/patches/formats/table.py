"""What files of patches can be made into: one table. Loads a format's libraries when it is written."""

from __future__ import annotations

from dataclasses import dataclass

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import check_choice

PICTURES = ("png", "jpeg")
DEFAULT_SHARD_SIZE = 1000


@dataclass(frozen=True)
class PictureOptions:
    """How formats of single pictures write them.

    Attributes
    ----------
    picture
        One of `PICTURES`.
    shard_size
        Patches in a tar file.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    picture: str = PICTURES[0]
    shard_size: int = DEFAULT_SHARD_SIZE

    def __post_init__(self) -> None:
        check_choice("--format", self.picture, PICTURES)
        if self.shard_size < 1:
            raise UsageError(f"--shard-size {self.shard_size}: expected a number of patches above 0")


@dataclass(frozen=True)
class PatchFormat:
    """One row of the table.

    Attributes
    ----------
    name
        Of the option of ``pyramidai patches export``.
    title
        Whose format, for messages.
    writer
        Function ``(folder, sources, options)`` of a module of this room, which fills an empty folder and gives the
        lines to be said of it.
    help
        Of the option.
    names, folders
        Regular expressions of the files and folders in one: see `FolderKind`.
    pixels, places
        Whether nothing can be written without pixels, or without a place on a slide.
    origin
        Whether patient, node and centre have to be known.
    labels
        Whether nothing can be written without labels.
    pictures
        Whether `PictureOptions` say how.
    """

    name: str
    title: str
    writer: str
    help: str
    names: str
    folders: str = "(?!)"  # by default, none
    pixels: bool = True
    places: bool = True
    origin: bool = False
    labels: bool = False
    pictures: bool = False


FORMATS = (
    PatchFormat(
        "clam",
        "CLAM",
        "coordinates.write_clam",
        "Coordinates for CLAM, with its list of slides.",
        r"patches/[^/]+\.h5|process_list_autogen\.csv",
        "patches",
        pixels=False,
    ),
    PatchFormat(
        "trident",
        "TRIDENT",
        "coordinates.write_trident",
        "Coordinates for TRIDENT.",
        r"patches/[^/]+_patches\.h5",
        "patches",
        pixels=False,
    ),
    PatchFormat(
        "fda",
        "the FDA's pipeline",
        "fda.write_fda",
        "Groups of decoded patches, as Li, Mikailov and Chen (2023) have them, with the look-up table.",
        r"lookup\.txt|[^/]+\.(h5|csv)",
    ),
    PatchFormat(
        "process",
        "PROCESS",
        "process.write_process",
        "Decoded patches by label, centre, patient and node, as the first layer of PROCESS has them.",
        r"patches\.hdf5",
        origin=True,
        labels=True,
    ),
    PatchFormat(
        "webdataset",
        "WebDataset",
        "webdataset.write_webdataset",
        "Tar files of pictures, labels and what is known of each patch.",
        r"patches-\d{6}\.tar|labels\.txt",
        places=False,
        pictures=True,
    ),
    PatchFormat(
        "images",
        "folders of pictures",
        "images.write_images",
        "Pictures in a folder a label, with a table.",
        r"patches\.csv|[^/]+/[^/]+\.(png|jpg)",
        r"[^/]+",
        places=False,
        pictures=True,
    ),
)
