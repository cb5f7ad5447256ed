"""Patches as WebDataset has its samples: tar files of pictures, labels, and what is known of each."""

from __future__ import annotations

import io
import json
import tarfile
from contextlib import ExitStack
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.formats.pictures import ENDINGS, encoded
from pyramidai_mpi.patches.formats.sources import Exported, common_labels, named_patches
from pyramidai_mpi.store.files.placing import flush_file
from pyramidai_mpi.store.patches.record import SHARES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyramidai_mpi.patches.formats.sources import Source
    from pyramidai_mpi.patches.formats.table import PictureOptions


def write_webdataset(folder: Path, sources: Sequence[Source], options: PictureOptions) -> list[str]:
    """Write ``patches-000000.tar``, ... with three members a patch, and ``labels.txt`` with the labels in order.

    Members are ``<slide>/<l0_x>_<l0_y>.cls`` (the label's number), ``.json`` and ``.png`` or ``.jpg``; the part before
    the first dot of the last name is the key, so slides may have dots in their names. Files without any label have no
    ``.cls``. Nothing in a tar file says when or by whom it was made: the same patches give the same bytes.

    Raises
    ------
    InputError
        When patches cannot be read, or the files have different labels.
    """
    labels = common_labels(sources)
    for label in labels:
        if len(label.splitlines()) > 1:
            raise InputError(
                f"{sources[0].path}: the label {label!r} is of two lines, of which labels.txt has one each"
            )
    said = Exported(len(sources))
    with ExitStack() as stack:
        shards = stack.enter_context(_Shards(folder, options.shard_size))
        for source in sources:
            _write_slide(shards, source, labels, options.picture, said)
    if labels:
        path = folder / "labels.txt"
        path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
        flush_file(path)
    line = f"{said.line('WebDataset')}; {counted(shards.n, 'shard')}"
    return [line] if labels else [line, "  without labels (.cls), as the files hold none"]


def _write_slide(shards: _Shards, source: Source, labels: tuple[str, ...], picture: str, said: Exported) -> None:
    for number, row, pixels, name in named_patches(source, labels, said):
        label = int(row["label"])
        members = {
            "cls": str(label).encode() if labels else None,
            "json": _description(source, number, row, labels[label] if labels else None),
            ENDINGS[picture]: encoded(pixels, picture),
        }
        shards.add(f"{source.stem}/{name}", members)


def _description(source: Source, number: int, row: np.void, label: str | None) -> bytes:
    """What is known of a patch, as JSON with sorted keys."""
    slide, settings = source.header.slide, source.header.settings
    shares = {name: None if np.isnan(row[name]) else round(float(row[name]), 6) for name in SHARES}
    about = {"slide": slide.name, "number": number, "label": label, "size": settings.size, **slide.origin, **shares}
    if source.has_slide:
        about |= {name: int(row[name]) for name in ("l0_x", "l0_y", "col", "row")}
        about |= {"spacing_um_px": settings.spacing, "downsample": settings.downsample}
    return json.dumps(about, sort_keys=True, ensure_ascii=False).encode()


class _Shards:
    """Tar files of up to a number of samples each.

    Attributes
    ----------
    n
        How many there are.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size = folder, size
        self._tar: tarfile.TarFile | None = None
        self._path = folder
        self._samples = 0
        self.n = 0

    def __enter__(self) -> _Shards:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def add(self, key: str, members: dict[str, bytes | None]) -> None:
        """Add a sample, its members in the order of their endings."""
        if self._samples == self._size:
            self._close()
        if self._tar is None:
            self._path = self._folder / f"patches-{self.n:06d}.tar"
            self._tar = tarfile.open(self._path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115  closed by _close
            self.n += 1
        for ending, data in sorted(members.items()):
            if data is None:
                continue
            member = tarfile.TarInfo(f"{key}.{ending}")
            member.size, member.mode, member.mtime = len(data), 0o644, 0
            self._tar.addfile(member, io.BytesIO(data))
        self._samples += 1

    def _close(self) -> None:
        if self._tar is not None:
            self._tar.close()
            flush_file(self._path)
        self._tar, self._samples = None, 0
