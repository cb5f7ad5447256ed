"""Journals of hosts that share no files: each host keeps its own, and the next start brings them together.

Results, and the journals that a run goes on from, are on the disk that rank 0 sees. Every other disk has one rank in
charge, the lowest of those that see it. It keeps a copy of each slide's manifest there, so that losing rank 0's host
does not lose what the journals are of, and at the next start gives what rank 0's disk lacks of them. After that all
goes on as if one disk had held everything.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import ERROR_OF_EXIT_CODE, InputError, OutputExistsError, PyramidError, StorageError
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.ranks.collectives import agree, gather_messages, on_all, share_bytes, share_messages
from pyramidai_mpi.ranks.sending import among, spread_file
from pyramidai_mpi.run.deciding import is_journal_of
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.files.placing import discard, flush_folder, storage_errors, temporary_name
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.manifest import parse_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mpi4py import MPI

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.ranks.disks import RanksByDisk
    from pyramidai_mpi.run.facts import Facts
    from pyramidai_mpi.store.files.lock import LockWatch
    from pyramidai_mpi.store.journal.manifest import Manifest

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Elsewhere:
    """What an earlier start has left of a slide on another disk than rank 0's.

    Attributes
    ----------
    host
        Where.
    manifest
        Of its journal; None where nobody needs it, or nobody lived to write it.
    error
        What is wrong with it, or who is at work on it.
    """

    host: str
    manifest: Manifest | None
    error: PyramidError | None


class JournalDisks:
    """One rank's part in it; where all ranks see one folder, there is nothing to do.

    Parameters
    ----------
    comm
        The ranks.
    ranks
        Who of them sees which folder.
    each
        Settings of all slides, in one folder.
    watch
        What was seen of the locks of other starts.
    """

    def __init__(self, comm: MPI.Intracomm, ranks: RanksByDisk, each: Sequence[RunSettings], watch: LockWatch) -> None:
        self.ranks = ranks
        self._comm, self._each, self._watch = comm, each, watch
        self._found: dict[int, list[_Elsewhere]] = {}
        self._locks: dict[int, OutputLock] = {}
        self._not_to_remove: set[int] = set()

    def look(self) -> None:
        """Find what earlier starts have left on other disks than rank 0's, and lock it there. Collective."""
        if self.ranks.are_together:
            return
        left = []
        if self.ranks.leads_elsewhere:
            for settings in self._each:  # all before the first is waited for
                self._watch.look(settings.output.path)
            JournalFolder.shared_beside(self._each[0].output.path).watch_starts(self._watch)
            left = [found for slide in range(len(self._each)) if (found := self._left_here(slide)) is not None]
        told = share_messages(self._comm, [json.dumps(one).encode() for one in left])
        for slide, host, manifest, code, line in map(json.loads, told):
            path = JournalFolder.of(self._each[slide].output.path).path
            one = _Elsewhere(
                host,
                parse_manifest(manifest.encode(), path) if manifest else None,
                ERROR_OF_EXIT_CODE[code](line) if code else None,
            )
            self._found.setdefault(slide, []).append(one)

    def _left_here(self, slide: int) -> tuple[int, str, str, int, str] | None:
        """What is left of a slide on this disk, in words for the others; its lock is this run's then."""
        output = self._each[slide].output
        folder = JournalFolder.of(output.path)
        try:
            if not (folder.exists or OutputLock.is_there(output.path)):
                return None
            self._locks[slide] = OutputLock.take(output.path, patient=True, watch=self._watch)
            if not folder.exists:
                return None
            manifest = None if output.overwrite else folder.manifest()
        except PyramidError as error:
            return slide, host_name(), "", error.exit_code, f"{error} (on host {host_name()})"
        return slide, host_name(), "" if manifest is None else manifest.to_bytes().decode(), 0, ""

    def has_left(self, slide: int) -> bool:
        """Whether an earlier start has left something of a slide on another disk than rank 0's."""
        return slide in self._found

    def adopt(self, slide: int) -> None:
        """See that what is left elsewhere is of the run that is left here; where nothing is, of it take the manifest.

        By the slide's owner, which holds its lock.

        Raises
        ------
        OutputExistsError
            The settings do not say what to do with it, or another run is at work there.
        InputError
            It is of another run, or damaged.
        StorageError
            The disk is full or fails.
        """
        if slide not in self._found:
            return
        output = self._each[slide].output
        folder = JournalFolder.of(output.path)
        own = folder.manifest() if output.resume and folder.exists else None
        known, where = own, f"host {host_name()}"
        for one in self._found[slide]:
            if one.error is not None:
                raise one.error
            if not (output.resume or output.overwrite):
                raise OutputExistsError(
                    f"{folder.path}: an earlier run was not finished on host {one.host}; go on from it with --resume, "
                    "or use --overwrite"
                )
            if one.manifest is None:
                continue
            if known is None:  # what it was to replace lies elsewhere
                known, where = replace(one.manifest, replaces=None), f"host {one.host}"
            if not _is_same_run(known, one.manifest):
                raise _another_run(folder, one.host, where)
            # a start may have been on some of the hosts alone
            unknown = [start for start in one.manifest.later_starts if start not in known.later_starts]
            known = replace(known, later_starts=(*known.later_starts, *unknown))
        if known is not None and known != own:
            folder.create(known)

    def compare(self, slide: int, facts: Facts) -> None:
        """See whether what is left elsewhere is of the run of these facts, which has finished the slide; by its owner.

        A run of other facts may have been at work there, which did not see the result.
        """
        for one in self._found.get(slide, ()):
            if one.error is None and (one.manifest is None or is_journal_of(one.manifest, facts)):
                continue
            self._not_to_remove.add(slide)
            path = JournalFolder.of(self._each[slide].output.path).path
            what = one.error or f"{path}: is the journal of another run than the finished result's on host {one.host}"
            log.warning("%s; it is left", what)

    def tidy(self, finished: Sequence[int]) -> None:
        """Remove what is left elsewhere of slides that an earlier start has finished; rank 0 knows them. Collective."""
        if self.ranks.are_together:
            return
        own = json.dumps(list(finished)).encode() if self._comm.rank == 0 else None
        kept = {int(one) for one in share_messages(self._comm, [b"%d" % slide for slide in self._not_to_remove])}
        for slide in json.loads(share_bytes(self._comm, own)):
            self.end(slide, has_file=slide not in kept)

    def gather(self, folders: Sequence[JournalFolder], shared: JournalFolder) -> None:
        """Bring the files that rank 0's disk lacks there from the others, each into the folder of its name. Collective.

        Parameters
        ----------
        folders
            Those of slides that a run goes on with.
        shared
            The one that slides share; what starts write there that are at work stays where it is.

        Raises
        ------
        InputError, StorageError
            On all ranks, when a file cannot be read, sent or written.
        """
        comm, ranks = self._comm, self.ranks
        if ranks.are_together:
            return
        all_folders = [*folders, shared]
        names: list[list[str]] = []
        error: PyramidError | None = None
        try:
            if ranks.leads_elsewhere or comm.rank == 0:
                names = [folder.files() for folder in folders]
                names.append(shared.files() if comm.rank == 0 else self._of_ended_starts(shared))
        except PyramidError as caught:
            error = caught
        agree(comm, error)
        listed = [json.loads(one) for one in gather_messages(comm, [json.dumps(names).encode()] if names else [])]
        plan: list[list[tuple[int, str]]] = []
        if comm.rank == 0:
            there = [set(of_folder) for of_folder in listed[0]]
            for of_leader in listed[1:]:
                plan.append([(n, name) for n, found in enumerate(of_leader) for name in found if name not in there[n]])
                for n, name in plan[-1]:
                    there[n].add(name)
        plan = json.loads(share_bytes(comm, json.dumps(plan).encode() if comm.rank == 0 else None))
        n_files = sum(map(len, plan))
        if n_files and comm.rank == 0:
            log.info("bringing %d files of the journals from %d other hosts", n_files, sum(map(bool, plan)))
            try:
                for n in {n for wanted in plan for n, _ in wanted}:
                    all_folders[n].make()
            except PyramidError as caught:
                error = caught
        agree(comm, error)
        for leader, wanted in zip(ranks.leaders[1:], plan, strict=True):
            if wanted:
                with among(comm, (0, leader)) as pair:
                    for n, name in wanted if pair is not None else ():
                        assert pair is not None
                        failure = _bring(pair, all_folders[n].path / name)  # never skipped: the other waits
                        error = error or failure
        agree(comm, error)

    def _of_ended_starts(self, shared: JournalFolder) -> list[str]:
        """Files in this disk's shared folder of starts that are over."""
        over = set()
        for start in shared.starts():
            try:
                OutputLock.take(shared.path / start, patient=True, watch=self._watch).release()
                over.add(start)
            except OutputExistsError:
                log.info("%s: start %s is at work on host %s, and is left alone", shared.path, start, host_name())
        return [name for name in shared.files() if name.rpartition("-")[0] in over]

    def begin(self, slide: int, manifest: bytes) -> None:
        """Keep a slide's manifest on this disk as well, if it is another than rank 0's; its lock is held from then on.

        Raises
        ------
        OutputExistsError
            Another run is at work there.
        InputError, StorageError
            What lies there is of another run, or cannot be read or removed; the disk is full or fails.
        """
        if not self.ranks.leads_elsewhere:
            return
        output = self._each[slide].output
        folder = JournalFolder.of(output.path)
        wanted = parse_manifest(manifest, folder.path)
        if slide not in self._locks:
            self._locks[slide] = OutputLock.take(output.path)
        try:
            if output.overwrite and folder.exists and not folder.remove():
                raise StorageError(f"{folder.path}: cannot be removed; see to its rights, or name another output")
            found = folder.manifest() if folder.exists else None
            if found is not None and not _is_same_run(found, wanted):  # it came after this run had looked
                raise _another_run(folder, host_name(), "rank 0's")
            if found != wanted:
                folder.create(wanted)
        except BaseException:
            self._locks.pop(slide).release()  # else the slide's end would remove what is not this run's
            raise

    def begin_or_refuse(self, slide: int, manifest: bytes) -> SlideEnd | None:
        """As `begin`; what it would raise ends this slide, and not the others."""
        try:
            self.begin(slide, manifest)
        except Exception as error:
            end = SlideEnd.by(error, str(self._each[slide].slide.path))
            return replace(end, line=f"{end.line} (on host {host_name()})")
        return None

    def end(self, slide: int, *, has_file: bool) -> None:
        """Let go of a slide on this disk, unless it is rank 0's; once its result is placed, its journal goes."""
        lock = self._locks.pop(slide, None)
        if lock is None:
            return
        folder = JournalFolder.of(self._each[slide].output.path)
        try:
            if has_file and folder.exists:
                lock.check()
                if not folder.remove():
                    log.warning("%s: cannot be removed on host %s; remove it by hand", folder.path, host_name())
        except PyramidError as error:
            log.warning("%s: is left as it is on host %s: %s", folder.path, host_name(), error)
        finally:
            lock.release()

    def begin_start(self, shared: JournalFolder, start: str) -> OutputLock | None:
        """Lock this run's start in this disk's shared folder, where that is another than rank 0's. Collective.

        Raises
        ------
        StorageError
            On all ranks, when one cannot be made.
        """
        lock: OutputLock | None = None

        def take() -> None:
            nonlocal lock
            if self.ranks.leads_elsewhere:
                lock = shared.join_start(start)

        try:
            if not self.ranks.are_together:
                on_all(self._comm, take)
        except BaseException:
            if lock is not None:
                lock.release()
            raise
        return lock

    def close(self) -> None:
        """Let go of all slides; what was done of them stays."""
        for slide in list(self._locks):
            self.end(slide, has_file=False)


def _bring(pair: MPI.Intracomm, path: Path) -> PyramidError | None:
    """Send a file from the second of two ranks to the first; what went wrong on this one. Collective over both."""
    if pair.rank == 1:
        return spread_file(pair, 1, path, None)
    temporary = temporary_name(path)
    error = spread_file(pair, 1, None, temporary)
    try:
        if error is None:
            with storage_errors(path):
                temporary.rename(path)
                flush_folder(path.parent)
    except PyramidError as caught:
        error = caught
    finally:
        discard(temporary)
    return error


def _is_same_run(one: Manifest, other: Manifest) -> bool:
    return (one.run_hash, one.word) == (other.run_hash, other.word)


def _another_run(folder: JournalFolder, host: str, where: str) -> InputError:
    return InputError(
        f"{folder.path}: is the journal of another run on host {host} than on {where}; remove the one that is not to "
        "count, or start afresh with --overwrite"
    )
