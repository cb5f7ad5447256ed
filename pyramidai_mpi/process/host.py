"""Which host this is, and what a result was made with: processor, versions."""

from __future__ import annotations

import hashlib
import os
import platform
import socket
import subprocess
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

_LIBRARIES = (
    "mpi4py",
    "numpy",
    "h5py",
    "onnxruntime",
    "openslide-python",
    "openslide-bin",
    "scikit-image",
    "scipy",
    "imagecodecs",
    "pillow",
    "openvino",
    "simplejpeg",
)


def host_name() -> str:
    """Name of this host."""
    return socket.gethostname()


def machine_id() -> bytes:
    """Tells running systems apart, also two whose names are the same."""
    return (_boot_id() or host_name()).encode()


def pid_space() -> str:
    """Where a process number means the same process: host, running system and name space of numbers, for a file.

    Empty where the system does not tell, or shows the processes of another name space.
    """
    boot = _boot_id()
    with suppress(OSError):
        if boot and str(Path("/proc/self").readlink()) == str(os.getpid()):
            return f"{host_name()} {boot} {Path('/proc/self/ns/pid').readlink()}"
    return ""


def _boot_id() -> str:
    """Different after each start of a system; empty where it does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def cpu_description() -> str:
    """Architecture and vector instructions of this host: results are bitwise equal only among equal ones."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return " ".join([platform.machine(), *found])


def library_versions() -> dict[str, str]:
    """Versions of the libraries that can change a result, by distribution name, as far as they were installed so.

    OpenSlide may come from the system, onnxruntime by another name.
    """
    return dict(_versions_found())


@cache
def _versions_found() -> tuple[tuple[str, str], ...]:
    """Looked for once: of many slides each asks, and every look reads a dozen files."""
    versions = {}
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return tuple(versions.items())


def program_mark() -> str:
    """Eight letters that tell apart copies of the program, of one version too, whose files differ in name or size."""
    package = Path(__file__).parents[1]
    files = sorted((path.relative_to(package).as_posix(), path.stat().st_size) for path in package.rglob("*.py"))
    return hashlib.sha256(repr(files).encode()).hexdigest()[:8]


def git_revision() -> str | None:
    """Commit of the git checkout that the program runs from, with ``+`` when files of it were changed; None elsewhere.

    A checkout that merely holds an installed copy is not meant: the program's files must be tracked by it.
    """
    folder = Path(__file__).parents[1]

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        command = ["git", "-C", str(folder), "--no-optional-locks", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)

    try:
        if ask("ls-files", "--error-unmatch", "process/host.py").returncode:
            return None
        commit = ask("rev-parse", "HEAD")
        changed = ask("diff", "--quiet", "HEAD", "--", ".").returncode
    except (OSError, subprocess.TimeoutExpired):  # no git here
        return None
    return None if commit.returncode else commit.stdout.strip() + ("+" if changed else "")
