"""Files of patches made of pictures in folders, which they keep as they are, byte by byte."""

from __future__ import annotations

import hashlib
import json
import math
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.damage import damage_and
from pyramidai_mpi.base.errors import InputError, input_errors, printable
from pyramidai_mpi.base.names import is_utf8
from pyramidai_mpi.base.patch_order import ENDING
from pyramidai_mpi.base.types import FAILED_DTYPE
from pyramidai_mpi.patches.formats.pictures_table import labels_in, pictures_in, pictures_of_table
from pyramidai_mpi.patches.formats.placing import place_imported
from pyramidai_mpi.patches.formats.sources import plain_name
from pyramidai_mpi.patches.pictures import FORMATS, decode_file
from pyramidai_mpi.store.files.placing import check_target
from pyramidai_mpi.store.patches.record import (
    FILES,
    PLACES,
    UNKNOWN,
    ImageStore,
    PatchSettings,
    PatchSlide,
    listed_table,
)
from pyramidai_mpi.store.patches.writer import KeptImages, PatchContent

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.patches.formats.pictures_table import LabelledPicture

_LARGEST_SIDE = 1 << 14
_MOST_BYTES = 1 << 30


def import_pictures(
    folder: Path,
    table: Path | None,
    output: Path,
    *,
    mpp: float,
    group: int,
    command_line: str,
    overwrite: bool,
) -> Iterator[str]:
    """Make files of patches of the pictures in a folder, one for each patient where a table says whose they are.

    Parameters
    ----------
    folder
        ``LABEL/NAME.png``, or whatever `table` names in it.
    table
        See `pictures_of_table`; None takes all pictures, with the folders' names as labels.
    output
        Folder for ``FOLDER.patches.h5``, or ``PATIENT.patches.h5`` for each.
    mpp
        µm per pixel of the pictures; NaN where it is not known.
    group
        Patches in a group.

    Raises
    ------
    InputError
        When a picture cannot be decoded, is not square or of another size than the first; when table or folder cannot
        be read, or some pictures have a patient and others not.
    OutputExistsError, StorageError
        When a file is in the way or cannot be written.
    """
    pictures = pictures_in(folder) if table is None else pictures_of_table(folder, table)
    labels = labels_in(pictures)
    for name in {*labels, *(picture.patient or "" for picture in pictures), folder.resolve().name}:
        if not is_utf8(name):
            raise InputError(f"{table or folder}: the name {printable(name)} is not in UTF-8; write it so")
    targets = {
        patient: output / f"{plain_name(patient or folder.resolve().name, table or folder, 'the name')}{ENDING}"
        for patient in _patients(pictures, table or folder)
    }
    for target in targets.values():
        check_target(target, overwrite=overwrite)
    size = _check(folder, pictures)
    for patient, target in targets.items():
        own = [picture for picture in pictures if picture.patient == patient]
        content = _content(folder, own, labels, size, mpp, group, patient)
        facts = {"command_line": command_line, "imported_from": folder.resolve().name}
        place_imported(target, content, facts, [] if table is None else [table], overwrite)
        unknown = int((content.patches["label"] == UNKNOWN).sum())
        said = f", labels {', '.join(labels)}" if labels else ""
        said += f"; {unknown} of unknown label" if unknown else ""
        yield f"{target.name.removesuffix(ENDING)}: {len(own)} pictures{said}: {target}"


def _patients(pictures: Sequence[LabelledPicture], source: Path) -> list[str | None]:
    """All patients in order; None alone where nothing is said of them."""
    found = {picture.patient for picture in pictures}
    if None in found and len(found) > 1:
        first = next(picture.name for picture in pictures if picture.patient is None)
        raise InputError(f"{source}: says no patient of {first}, but of others; a patient is never guessed")
    return sorted(found, key=str)


def _check(folder: Path, pictures: Sequence[LabelledPicture]) -> int:
    """Decode all pictures; the side that they have in common."""
    side = _side_of(folder / pictures[0].name)
    for picture in pictures:
        path = folder / picture.name
        try:
            decode_file(_bytes_of(path), (side, side))
        except ValueError as error:
            raise InputError(
                f"{path}: {error}; all pictures of a file of patches are squares of one size, that of the first"
            ) from error
    return side


def _side_of(path: Path) -> int:
    from PIL import Image

    try:
        with input_errors(path), Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
    except InputError as error:
        raise InputError(f"{path}: is no PNG, JPEG or TIFF that can be read") from error
    except damage_and(Image.DecompressionBombError) as error:
        raise InputError(f"{path}: is no PNG, JPEG or TIFF that can be read: {error}") from error
    if width != height or not 1 <= width <= _LARGEST_SIDE:
        raise InputError(f"{path}: is {width} x {height} pixels; patches are squares of up to {_LARGEST_SIDE}")
    return width


def _bytes_of(path: Path) -> bytes:
    with input_errors(path), path.open("rb") as file:
        data = file.read(_MOST_BYTES)
    if len(data) == _MOST_BYTES:
        raise InputError(f"{path}: is larger than a picture of a patch")
    return data


def _content(
    folder: Path,
    pictures: Sequence[LabelledPicture],
    labels: tuple[str, ...],
    size: int,
    mpp: float,
    group: int,
    patient: str | None,
) -> PatchContent:
    """Everything that a file is to hold."""
    settings = PatchSettings(
        size=size,
        stride=size,
        asked_mpp=mpp,
        asked_level=-1,
        spacing=mpp,
        downsample=1.0,
        stored_level=0,
        stored_downsample=1.0,
        ratio=1.0,
        n_random=0,
        seed=0,
        min_tissue=0.0,
        tissue_method="none",
        regions="{}",
        pixels=FILES,
        group=group,
        places=PLACES[2],
        labels=json.dumps(labels),
    )
    table = listed_table(settings, (0, 0), np.full((len(pictures), 2), -1, np.int64))
    table["label"] = [UNKNOWN if picture.label is None else labels.index(picture.label) for picture in pictures]
    lengths, slide_hash = _measured(folder, pictures)
    name = patient or folder.resolve().name
    return PatchContent(
        PatchSlide(name, slide_hash, "pictures", (0, 0), math.nan, {} if patient is None else {"patient": patient}),
        settings,
        table,
        np.zeros(0, FAILED_DTYPE),
        len(pictures),
        None,
        images=KeptImages(ImageStore(FILES), lengths, lambda number: _bytes_of(folder / pictures[number].name)),
    )


def _measured(folder: Path, pictures: Sequence[LabelledPicture]) -> tuple[npt.NDArray[np.int64], str]:
    """Bytes of each picture, int64 (N,), and a hash that tells these pictures from others.

    SHA-256 of one line a picture in their order: the SHA-256 of its bytes, a blank, and its name.
    """
    lengths = np.zeros(len(pictures), np.int64)
    digest = hashlib.sha256()
    for number, picture in enumerate(pictures):
        data = _bytes_of(folder / picture.name)
        lengths[number] = len(data)
        digest.update(f"{hashlib.sha256(data).hexdigest()} {picture.name}\n".encode(errors="surrogateescape"))
    return lengths, digest.hexdigest()
