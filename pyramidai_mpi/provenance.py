"""What a result was made with: host, processor, versions."""

from __future__ import annotations

import platform
import socket
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

import numpy as np

_LIBRARIES = ("mpi4py", "numpy", "h5py", "onnxruntime", "openslide-python", "openslide-bin", "scikit-image")
_OPTIONAL = ("imagecodecs", "openvino", "simplejpeg")


def host_name() -> str:
    """Name of this host."""
    return socket.gethostname()


def cpu_description() -> str:
    """Architecture and vector instructions of this host: results are bitwise equal only among equal ones."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    return " ".join([platform.machine(), *found])


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that can change a result, by distribution name."""
    versions = {name: version(name) for name in _LIBRARIES}
    for name in _OPTIONAL:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    return versions
