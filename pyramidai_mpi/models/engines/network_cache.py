"""Networks that were made ready before: compiled, and seen to run, kept for the next start on such a machine.

One file a network, in a folder that belongs to the user alone, as a compiled network is a program. Its name is the hash
of all that it depends on: the network's own hash, the library's version, the processor, the settings. It begins with a
line of JSON that repeats these and says what was found, and a SHA-256 of that; then come the compiled network, from a
multiple of the page size on, and a SHA-256 over all. A file of onnxruntime, which compiles nothing that could be kept,
says what was found alone. There is an entry only for networks that were loaded and run in that very library on such a
machine.

Nothing depends on the folder: where it is missing, not the user's own, full or damaged, networks are made ready as if
it were empty.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import pwd
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyramidai_mpi import __version__
from pyramidai_mpi.models.engines.compiled_network import CompiledNetwork
from pyramidai_mpi.process.host import cpu_description
from pyramidai_mpi.process.mounts import is_on_local_disk

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import BinaryIO

    from pyramidai_mpi.models.package import ModelLevel, ModelPackage

log = logging.getLogger(__name__)

MOST_BYTES = 2 << 30
"""Of all entries together; those that were not used for longest go."""
_FORMAT = "pyramidai-network/1"
_BEGIN = 4096  # where the compiled network begins: all page sizes in use divide it, or it is read instead of mapped
_SEAL_BYTES = 32
_HEAD_BYTES = _BEGIN - _SEAL_BYTES  # what is found is believed before the network behind it is read
_ENDING, _PART = ".network", ".part"
_PART_IS_LEFT_S = 3600
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH
_CPUINFO = Path("/proc/cpuinfo")


def facts_of(level: ModelLevel, package: ModelPackage, library: str, precision: str) -> dict[str, Any]:
    """All that a network made ready depends on, for `NetworkCache`."""
    try:
        its_version = version(library)
    except PackageNotFoundError:  # came by another name: nothing tells one version from the next
        its_version = ""
    return {
        "format": _FORMAT,
        "program": __version__,
        "network": level.sha256,
        "library": library,
        "version": its_version,
        "processor": _processor(),
        "precision": precision,
        "batch": level.batch,
        "tile_size": package.tile_size,
        "classes": len(package.classes),
        "input": repr(package.float_input),
        "position": package.sees_position,
    }


@dataclass(frozen=True)
class CachedNetwork:
    """An entry. Another process may remove it at any time.

    Attributes
    ----------
    path
        Its file.
    batch_shape, n_features
        What was found of the network; see `settle_batch_shape`.
    n_bytes
        Size of the compiled network, for that batch shape; 0 where the library has none.
    """

    path: Path
    batch_shape: int
    n_features: int
    n_bytes: int

    def compiled(self) -> CompiledNetwork | None:
        """The compiled network; None where it is there no longer, or damaged, and then it is removed."""
        try:
            with _open_own(self.path) as file:
                digest = hashlib.sha256()
                left = _BEGIN + self.n_bytes
                while left and (piece := file.read(min(left, 1 << 20))):
                    digest.update(piece)
                    left -= len(piece)
                if left or file.read() != digest.digest():
                    raise ValueError("its checksum does not fit")
                if is_on_local_disk(file.fileno()) and _BEGIN % mmap.ALLOCATIONGRANULARITY == 0:
                    return CompiledNetwork.mapped(file.fileno(), _BEGIN, self.n_bytes)
            return CompiledNetwork.of(self.read())
        except FileNotFoundError as error:
            log.info("a network is compiled anew: %s", error)
        except (OSError, ValueError) as error:
            _remove_damaged(self.path, error)
        return None

    def read(self) -> bytes:
        """The compiled network's bytes, unchecked.

        Raises
        ------
        OSError
            When they cannot be read.
        """
        with _open_own(self.path) as file:
            file.seek(_BEGIN)
            return file.read(self.n_bytes)


class NetworkCache:
    """A user's folder of networks that were made ready.

    Parameters
    ----------
    folder
        The folder, which need not be there; None for none: nothing is found then, and nothing kept.
    most_bytes
        See `MOST_BYTES`.
    """

    def __init__(self, folder: Path | None, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes

    @classmethod
    def of_user(cls) -> NetworkCache:
        """In ``$XDG_CACHE_HOME/pyramidai``, or ``~/.cache/pyramidai``."""
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not base.is_absolute():
            home = _own_home()
            if home is None:
                _say_once("compiled networks are not kept: this user has no home; name a folder in XDG_CACHE_HOME")
                return cls(None)
            base = home / ".cache"
        return cls(base / "pyramidai" / "networks")

    def find(self, facts: Mapping[str, Any]) -> CachedNetwork | None:
        """The entry of a network, None where there is none that can be used."""
        if not facts["version"] or not self._is_own(make=False):
            return None
        path = self._path(facts)
        try:
            with _open_own(path) as file:
                head = file.read(_BEGIN)
                entry = _entry_of(path, head, facts)
                if os.fstat(file.fileno()).st_size != _BEGIN + entry.n_bytes + _SEAL_BYTES:
                    raise ValueError("it is not whole")
                with suppress(OSError):
                    os.utime(file.fileno())  # was used now
        except (FileNotFoundError, PermissionError) as error:
            log.debug("no network that was made ready before: %s", error)
            return None
        except (OSError, ValueError) as error:
            _remove_damaged(path, error)
            return None
        return entry

    def keep(
        self, facts: Mapping[str, Any], batch_shape: int, n_features: int, compiled: bytes
    ) -> CachedNetwork | None:
        """Keep a network that was made ready; its entry, None where it cannot be kept."""
        size = _BEGIN + len(compiled) + _SEAL_BYTES
        said = {"facts": dict(facts), "batch_shape": batch_shape, "n_features": n_features, "n_bytes": len(compiled)}
        head = json.dumps(said).encode()
        if not facts["version"] or size > self._most_bytes or len(head) > _HEAD_BYTES or not self._is_own(make=True):
            return None
        assert self._folder is not None
        head = head.ljust(_HEAD_BYTES, b"\0")
        head += hashlib.sha256(head).digest()
        seal = hashlib.sha256(head)
        seal.update(compiled)
        part: Path | None = None
        try:
            self._make_room(size)
            # for its owner alone; kept under another name, or left by a killed run
            with tempfile.NamedTemporaryFile(suffix=_PART, dir=self._folder, delete=False) as file:
                part = Path(file.name)
                for piece in (head, compiled, seal.digest()):
                    file.write(piece)
            part.rename(self._path(facts))
        except OSError as error:
            _say_once(f"a compiled network is not kept: {error.strerror or error}")
            if part is not None:
                with suppress(OSError):
                    part.unlink()
            return None
        return self.find(facts)

    def _path(self, facts: Mapping[str, Any]) -> Path:
        assert self._folder is not None
        return self._folder / (hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest() + _ENDING)

    def _is_own(self, *, make: bool) -> bool:
        """Whether there is the folder, and nobody else can write to it."""
        if self._folder is None:
            return False
        try:
            if make:
                for folder in (self._folder.parents[1], self._folder.parent, self._folder):
                    folder.mkdir(mode=0o700, exist_ok=True)  # never the home itself
            each = [folder.lstat() for folder in (self._folder.parent, self._folder)]
        except OSError as error:
            if not make and isinstance(error, FileNotFoundError):
                return False  # not there yet
            _say_once(f"compiled networks are not kept: {error}")
            return False
        if all(stat.S_ISDIR(status.st_mode) and _is_private(status) for status in each):
            return True
        _say_once(f"{self._folder}: is not used, as it is no folder of this user's own; see to it with chmod 700")
        return False

    def _make_room(self, n_bytes: int) -> None:
        """Remove what was not used for longest until so many bytes more fit, and what killed runs have left."""
        assert self._folder is not None
        entries = []
        for path in self._folder.iterdir():
            with suppress(OSError):  # another run removes, too
                status = path.lstat()
                if path.suffix == _ENDING:
                    entries.append((status.st_mtime, status.st_size, path))
                elif path.suffix == _PART and time.time() - status.st_mtime > _PART_IS_LEFT_S:
                    path.unlink()
        total = sum(size for _, size, _ in entries) + n_bytes
        for _, size, path in sorted(entries):
            if total <= self._most_bytes:
                return
            with suppress(OSError):
                path.unlink()
            total -= size


def _own_home() -> Path | None:
    """The user's home; where HOME is empty or relative, which would mean the root or the current folder, as listed.

    None where the user is not listed, as in containers that are given any number, or where it is another's, as under
    sudo: what root makes there would stand in the way of whose home it is.
    """
    home = Path(os.environ.get("HOME", ""))
    if not home.is_absolute():
        try:
            home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
        except KeyError:
            return None
    with suppress(OSError):  # not there: said by whoever makes a folder in it
        if home.stat().st_uid != os.geteuid():
            return None
    return home


@cache
def _say_once(line: str) -> None:
    log.info("%s", line)


def _entry_of(path: Path, head: bytes, facts: Mapping[str, Any]) -> CachedNetwork:
    """What the first bytes of a file say.

    Raises
    ------
    ValueError
        When they are not those of a network with these facts.
    """
    said_bytes, seal = head[:_HEAD_BYTES], head[_HEAD_BYTES:]
    if hashlib.sha256(said_bytes).digest() != seal:
        raise ValueError("the checksum of its description does not fit")
    said = json.loads(said_bytes.rstrip(b"\0"))
    names = ("batch_shape", "n_features", "n_bytes")
    if not isinstance(said, dict) or said.get("facts") != dict(facts):
        raise ValueError("it is of another network")
    numbers = [number for number in map(said.get, names) if isinstance(number, int) and number >= 0]
    if len(numbers) < len(names) or numbers[0] not in (1, facts["batch"]):
        raise ValueError("it makes no sense")
    return CachedNetwork(path, *numbers)


def _open_own(path: Path) -> BinaryIO:
    """Open a file for reading that is this user's, and that nobody else may write to."""
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    status = os.fstat(file.fileno())
    if stat.S_ISREG(status.st_mode) and _is_private(status):
        return file
    file.close()
    raise ValueError("others may write to it")


def _remove_damaged(path: Path, why: object) -> None:
    log.info("%s: is removed, and the network made ready anew: %s", path, why)
    with suppress(OSError):
        path.unlink()


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & _OTHERS_MAY_WRITE


@cache
def _processor() -> str:
    """Which processor this is, and what it can do, as far as compiled code and its results can depend on it."""
    told = []
    with suppress(OSError):
        first = _CPUINFO.read_text(errors="replace").partition("\n\n")[0]
        wanted = ("vendor_id", "cpu family", "model", "stepping", "flags", "Features", "CPU part", "cache size")
        told = [line for line in first.splitlines() if line.partition(":")[0].strip() in wanted]
    return hashlib.sha256("\n".join([cpu_description(), *told]).encode()).hexdigest()
