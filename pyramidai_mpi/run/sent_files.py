"""Slides and models that only rank 0's host has: sent once to each other host, and removed from there at the end."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError, PyramidError, StorageError, input_errors
from pyramidai_mpi.ranks.collectives import agree, allgather, on_all, on_rank0, share_bytes, share_messages
from pyramidai_mpi.ranks.disks import ranks_by_folder
from pyramidai_mpi.ranks.sending import among, spread_file
from pyramidai_mpi.slides.files_of_slide import files_of_slide
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.files.placing import storage_errors, sweep, temporary_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mpi4py import MPI

    from pyramidai_mpi.base.hosts import Hosts
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.ranks.disks import RanksByDisk

log = logging.getLogger(__name__)

_NAME = "pyramidai-sent"
_FORGOTTEN_AFTER_S = 30 * 86400.0
"""How old another machine's folder in a shared scratch folder is that counts as left over: no run takes so long."""
_GB = 1e9


@dataclass(frozen=True)
class _Sent:
    """Files that belong together, as rank 0 has them.

    Attributes
    ----------
    is_folder
        Whether the path named is a folder.
    names
        Of the files, relative to that folder, else to the one that the path lies in.
    sizes, marks
        Bytes and quick hashes.
    """

    is_folder: bool
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    marks: tuple[str, ...]

    @classmethod
    def of(cls, path: Path, files: Sequence[Path]) -> Self:
        """Look at the files that belong to a path."""
        is_folder = path.is_dir()
        base = path if is_folder else path.parent
        names = tuple(os.fspath(file.relative_to(base)) for file in files)
        return cls(is_folder, names, tuple(file.stat().st_size for file in files), tuple(map(quickhash, files)))

    def base(self, path: Path) -> Path:
        """Folder that the names are relative to."""
        return path if self.is_folder else path.parent

    def is_at(self, path: Path) -> bool:
        """Whether the very same files belong to a path here."""
        base = self.base(path)
        try:
            return all(
                (base / name).stat().st_size == size and quickhash(base / name) == mark
                for name, size, mark in zip(self.names, self.sizes, self.marks, strict=True)
            )
        except OSError:
            return False


class SentFiles:
    """One rank's part in sending; what came here is removed at the end. A context manager.

    What was sent stays through the loss of ranks, so that those left go on with it, whichever of them is rank 0 then.

    Parameters
    ----------
    hosts
        Whether anything is sent, and where to.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._is_wanted = hosts.send_slide
        self._root = hosts.scratch or Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
        self._folder: Path | None = None
        self._copies: dict[Path, Path] = {}
        self._ranks: RanksByDisk | None = None
        self._first = self._n_sent = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove what came here; a second time does nothing."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._copies:
            self._sweep()  # the rank that made them for this one may be gone

    def with_models(self, comm: MPI.Intracomm, each: Sequence[RunSettings]) -> list[RunSettings]:
        """The same runs by the model as it lies on this host, once it does. Collective; raises as `with_slides`."""
        common = each[0].model
        if not self._is_wanted:
            return list(each)
        path = self._seen(comm, common.path, _files_of_folder)
        encoder = None if common.encoder is None else self._seen(comm, common.encoder, _files_of_folder)
        return [settings.with_model(path=path, encoder=encoder) for settings in each]

    def with_slides(self, comm: MPI.Intracomm, each: Sequence[RunSettings], slides: Sequence[int]) -> list[RunSettings]:
        """The same runs on slides as they lie on this host, once they do. Collective.

        Parameters
        ----------
        slides
            Numbers of those that are needed.

        Raises
        ------
        InputError, StorageError
            On all ranks: rank 0 cannot read what is to be sent, or a host has no room for it, which is looked at before
            any is sent.
        """
        if self._is_wanted:
            self._bring(comm, [each[slide].slide.path for slide in slides], files_of_slide, is_one=len(each) == 1)
        return self.with_copies(each)

    def with_copies(self, each: Sequence[RunSettings]) -> list[RunSettings]:
        """The same runs on the copies of slides that are here already, of those that were sent before others."""
        return [
            replace(one, slide=replace(one.slide, path=here)) if (here := self._here(one.slide.path)) else one
            for one in each
        ]

    def _here(self, path: Path) -> Path | None:
        """The copy of what lies under a path with rank 0; None where there is none, or no longer."""
        copy = self._copies.get(path)
        return copy if copy is not None and os.path.lexists(copy) else None

    def _seen(self, comm: MPI.Intracomm, path: Path, files_of: Callable[[Path], list[Path]]) -> Path:
        self._bring(comm, [path], files_of, is_one=True)
        return self._copies.get(path, path)

    def _bring(
        self, comm: MPI.Intracomm, paths: Sequence[Path], files_of: Callable[[Path], list[Path]], *, is_one: bool
    ) -> None:
        """See that all ranks have what rank 0 has under these paths. Collective.

        Parameters
        ----------
        is_one
            The run is of one alone, and ends where it cannot be read; of several, each ends when it is opened.
        """
        if comm.size == 1:  # perhaps the last one, with what was sent to it
            return
        told = on_rank0(comm, lambda: self._list(paths, files_of, is_one=is_one))
        listed = json.loads(share_bytes(comm, None if told is None else json.dumps(told).encode()))
        wanted = [_Sent(is_folder, *map(tuple, others)) for is_folder, *others in listed]
        lacking = np.zeros(len(paths), np.int64)
        for n, (path, sent) in enumerate(zip(paths, wanted, strict=True)):
            if sent.names and not sent.is_at(self._copies.get(path, path)):
                self._copies.pop(path, None)  # made for a rank that was lost, and gone with it
                lacking[n] = 1
        everyone = allgather(comm, lacking)
        if not everyone.any():
            return
        groups = self._groups(comm).groups
        # of each group that shares a scratch folder, the lowest rank that lacks a path receives it for all of them
        receivers = [
            [next(rank for rank in group if everyone[rank, n]) for group in groups if everyone[list(group), n].any()]
            for n in range(len(paths))
        ]
        own = [n for n in range(len(paths)) if comm.rank in receivers[n]]
        self._first, self._n_sent = self._n_sent, self._n_sent + len(paths)
        self._make_folders(comm, own, wanted)
        placed = [json.dumps([comm.rank, n, os.fspath(self._place(n))]).encode() for n in own]
        places = {(rank, n): Path(place) for rank, n, place in map(json.loads, share_messages(comm, placed))}
        for n, path in enumerate(paths):
            if receivers[n]:
                self._send(comm, path, wanted[n], receivers[n], places.get((comm.rank, n)))
        group = next(group for group in groups if comm.rank in group)
        for n, path in enumerate(paths):
            if lacking[n]:
                first = next(rank for rank in receivers[n] if rank in group)
                place = places[first, n]
                self._copies[path] = place if wanted[n].is_folder else place / wanted[n].names[0]

    def _list(
        self, paths: Sequence[Path], files_of: Callable[[Path], list[Path]], *, is_one: bool
    ) -> list[tuple[Any, ...]]:
        """What rank 0 has of each; nothing where it has nothing, which whoever opens it will say."""
        listed = []
        for path in paths:
            here = self._copies.get(path, path)
            if not os.path.lexists(here):
                if is_one:
                    raise InputError(f"{path}: no such file or folder to send")
                listed.append(_Sent(False, (), (), ()))
                continue
            try:
                with input_errors(here):
                    listed.append(_Sent.of(here, files_of(here)))
            except PyramidError as error:
                if is_one:
                    raise
                log.warning("is not sent: %s", error)
                listed.append(_Sent(False, (), (), ()))
        return [astuple(one) for one in listed]

    def _groups(self, comm: MPI.Intracomm) -> RanksByDisk:
        if self._ranks is None or sum(map(len, self._ranks.groups)) != comm.size:
            on_all(comm, self._check_root)
            if self._ranks is None:  # after a loss, some go on with copies in the folder of a rank that is gone
                self._sweep()
            self._ranks = ranks_by_folder(comm, self._root)
        return self._ranks

    def _check_root(self) -> None:
        if not self._root.is_dir():
            raise StorageError(f"{self._root}: no such folder, for what is sent; name another with --scratch")

    def _sweep(self) -> None:
        sweep(self._root / _NAME, silent_s=_FORGOTTEN_AFTER_S)

    def _place(self, n: int) -> Path:
        """Folder of this rank's for what is received under a number."""
        assert self._folder is not None
        return self._folder / str(self._first + n)

    def _make_folders(self, comm: MPI.Intracomm, own: Sequence[int], wanted: Sequence[_Sent]) -> None:
        """Make room for what this rank receives. Collective."""
        needed = sum(sum(wanted[n].sizes) for n in own)

        def make() -> None:
            if not own:
                return
            with storage_errors(self._root / _NAME):
                free = shutil.disk_usage(self._root).free
                if free < needed:
                    raise StorageError(
                        f"{self._root}: has {free / _GB:.1f} GB free, and what is sent takes {needed / _GB:.1f}; make "
                        "room, or name another folder with --scratch"
                    )
                if self._folder is None:
                    self._folder = temporary_name(self._root / _NAME)
                    self._folder.mkdir(mode=0o700)
                for n in own:
                    for name in wanted[n].names:
                        (self._place(n) / name).parent.mkdir(parents=True, exist_ok=True)

        on_all(comm, make)

    def _send(self, comm: MPI.Intracomm, path: Path, sent: _Sent, receivers: Sequence[int], place: Path | None) -> None:
        """Send what lies under a path to some ranks. Collective over all."""
        if comm.rank == 0:
            to = counted(len(receivers), "host")
            log.info("sending %s, %.1f MB, to %s", path.name, sum(sent.sizes) / 1e6, to)
        source = sent.base(self._copies.get(path, path)) if comm.rank == 0 else None
        error: PyramidError | None = None
        with among(comm, {0, *receivers}) as some:
            if some is not None:
                for name in sent.names:
                    given = None if source is None else source / name
                    target = None if place is None else place / name
                    failure = spread_file(some, 0, given, target)  # never skipped: the others wait
                    error = error or failure
        agree(comm, error)


def _files_of_folder(folder: Path) -> list[Path]:
    return [folder] if folder.is_file() else sorted(path for path in folder.rglob("*") if path.is_file())
