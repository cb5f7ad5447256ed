"""What libraries would do on their own, stopped: an analysis of patients' slides sends nothing and leaves nothing.

- onnxruntime's wheels from 1.29 on keep a device identity and a database of events below ``~/.cache``, for a collector.
- OpenVINO's ``import openvino`` keeps an identity in ``~/intel`` and reports the import to an analytics service.
- huggingface_hub, which timm brings, says who asks.
- matplotlib keeps a list of fonts and a folder of settings in the home, and asks fontconfig, which has a cache there.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

_SWITCHES = {"ORT_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


def silence_libraries() -> None:
    """Switch off what the environment can; for this process and its children, before any of the libraries is loaded.

    Whatever the user's environment says: 0 would not mean off.
    """
    os.environ.update(_SWITCHES)


@contextmanager
def hidden_module(name: str) -> Iterator[None]:
    """Let an import that can do without a module do without it."""
    known = sys.modules.get(name)
    sys.modules[name] = cast("ModuleType", None)  # what imports it meets an ImportError
    try:
        yield
    finally:
        del sys.modules[name]
        if known is not None:
            sys.modules[name] = known


@contextmanager
def passing_folders(*variables: str) -> Iterator[None]:
    """Environment variables that name a folder which is gone afterwards, where the user has not set them."""
    missing = [name for name in variables if name not in os.environ]
    with tempfile.TemporaryDirectory(prefix="pyramidai-") as folder:
        os.environ.update(dict.fromkeys(missing, folder))
        try:
            yield
        finally:
            for name in missing:
                del os.environ[name]
