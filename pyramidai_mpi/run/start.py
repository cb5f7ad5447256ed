"""What all ranks of a run must have been told and must see alike, before any of them begins."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from dataclasses import fields
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.settings import NETWORK_LIBRARIES
from pyramidai_mpi.process.host import host_name, library_versions
from pyramidai_mpi.ranks.alike import agree_alike, agree_on_folder
from pyramidai_mpi.ranks.collectives import agree, on_all, on_rank0, other_files, share_bytes
from pyramidai_mpi.ranks.disks import RanksByDisk, ranks_by_folder
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.files.placing import check_folder, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings

_COMPARED_ELSEWHERE = {"path", "mpp", "regions", "tissue_network", "command_line"}
"""Names of slides, results and regions below; what the model's folder holds by `networks.agree_on_package`."""
_DECIDE_NOTHING = {"mpi4py", "h5py"}


def check_start(comm: MPI.Intracomm, each: Sequence[RunSettings], otherwise: str = "") -> RanksByDisk:
    """See that all ranks have the same slides, settings and libraries, and the same regions and folders. Collective.

    Where hosts share no files, folders are of each host's own, and are made where they are missing.

    Parameters
    ----------
    otherwise
        As of `agree_on_folder`.

    Returns
    -------
    RanksByDisk
        Which ranks see the same folder of results.

    Raises
    ------
    InputError, StorageError
        The same on all ranks: names rank, host and what differs.
    """
    if comm.size == 1:
        return RanksByDisk.together(0, 1)
    agree_alike(comm, facts_of_start(each))
    folders = sorted({settings.output.path.parent for settings in each})
    if each[0].hosts.are_apart:
        assert len(folders) == 1  # the shared journal lies in it
        (folder,) = folders
        on_rank0(comm, lambda: check_folder(folder))
        on_all(comm, lambda: make_folder(folder, "-o or --results-dir"))
        return ranks_by_folder(comm, folder, owners_are_near=each[0].hosts.send_slide)
    for folder in folders:
        agree_on_folder(comm, folder, otherwise)
    return RanksByDisk.together(comm.rank, comm.size)


def compare_whole_slides(
    comm: MPI.Intracomm, ranks: RanksByDisk, each: Sequence[RunSettings], slides: Sequence[int]
) -> None:
    """Where hosts share no files and slides are to be hashed wholly, see that each has the same ones. Collective.

    Raises
    ------
    InputError
        On all ranks: names the slide and a host that has another one than rank 0's.
    """
    if ranks.are_together or not each[0].slide.sha256:
        return
    for slide in slides:
        path = each[slide].slide.path
        own = b""
        if ranks.leads:
            with suppress(PyramidError):  # whoever opens it will say so
                own = f"{file_sha256(path)} {host_name()}".encode()
        first = share_bytes(comm, own if comm.rank == 0 else None)
        is_other = own.partition(b" ")[0] != first.partition(b" ")[0] if own and first else False
        agree(comm, other_files(f"{path}: the slide", first.partition(b" ")[2].decode()) if is_other else None)


@contextmanager
def private(comm: MPI.Intracomm) -> Iterator[MPI.Intracomm]:
    """A communicator on which no message of the caller's can be met; freed by all ranks together or not at all."""
    from pyramidai_mpi.sched.transport import is_loss  # MPI starts with its import

    own = comm.Dup()
    try:
        yield own
    except PyramidError as error:
        if error.agreed or own.size == 1:
            own.Free()
        raise
    except BaseException as failure:
        if is_loss(failure):
            own.Revoke()  # whoever waits in it for a rank that has left learns of it
        elif own.size == 1:
            own.Free()
        raise
    own.Free()


def facts_of_start(each: Sequence[RunSettings]) -> dict[str, list[str]]:
    """What has to be alike, in words; models and slides are compared by those who read them."""
    common = each[0]
    unused = _DECIDE_NOTHING | set(NETWORK_LIBRARIES) - {"onnxruntime", common.model.backend}
    is_compared = len(each) == 1 and not common.hosts.send_slide
    if common.model.backend == "auto":
        unused = _DECIDE_NOTHING
    return {
        "slides": [_line(one) for one in each],
        # of several, one that is missing ends alone, and what is sent need not be there
        **({"slide": [f"{common.slide.path.name} {_is_there(common.slide.path)}"]} if is_compared else {}),
        "settings": [
            f"{field.name} {getattr(part, field.name)}"
            for part in (common.slide, common.model, common.output, common.schedule, common.windows, common.hosts)
            for field in fields(part)
            if field.name not in _COMPARED_ELSEWHERE
        ]
        + [f"mode {common.mode}"],
        "libraries": [f"{name} {version}" for name, version in library_versions().items() if name not in unused],
        **({} if common.slide.tissue_network is None else {"--tissue": content_words(common.slide.tissue_network)}),
        **{f"--{role.replace('_', '-')}": content_words(path) for role, path in common.slide.regions.paths().items()},
    }


def _line(settings: RunSettings) -> str:
    mpp = "" if settings.slide.mpp is None else f" at {settings.slide.mpp} µm/px"
    return f"{settings.slide.path.name}{mpp} to {settings.output.path.name}"


def _is_there(path: Path) -> str:
    return "is there" if os.path.lexists(path) else "is missing"


def content_words(path: Path) -> list[str]:
    """What a rank sees of a file, or in a folder of files; whoever uses it says what is wrong with it."""
    try:
        if path.is_dir():
            return sorted(f"{one.name} of {one.stat().st_size} bytes" for one in path.iterdir())
        return [f"a file of {path.stat().st_size} bytes, {quickhash(path)[:8]}"]
    except (OSError, PyramidError) as error:
        return [getattr(error, "strerror", None) or "cannot be read"]
