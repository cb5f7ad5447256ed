"""The file of a slide classifier: the skops format, arrays and plain values only.

A classifier may come from anywhere, so nothing in its file may name code. The file is refused before anything is built
from it unless every entry is one of a handful of plain kinds, and the trees are checked before they are asked.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.errors import InputError, input_errors
from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.classification.classifier import SlideClassifier
from pyramidai_mpi.classification.features import FeatureKind, feature_names
from pyramidai_mpi.classification.forest import Forest
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT = "pyramidai-slide-classifier/1"

_PLAIN = {
    ("builtins", "dict", "DictNode"),
    ("builtins", "list", "ListNode"),
    ("builtins", "str", "TypeNode"),
    ("builtins", "str", "JsonNode"),
    ("numpy", "ndarray", "NdArrayNode"),
}
_MOST_BYTES = 1 << 28
_ARRAYS = {"roots": "i4", "left": "i4", "right": "i4", "feature": "i4", "threshold": "f8", "share": "f8"}


def save_classifier(classifier: SlideClassifier, path: Path, *, overwrite: bool = False) -> None:
    """Write a classifier.

    Raises
    ------
    OutputExistsError, StorageError
        Nothing is left behind.
    """
    skops = _skops()
    content = {
        "format": FORMAT,
        "features": str(classifier.kind),
        "bins": classifier.bins,
        "level_sha256": list(classifier.level_sha256),
        "runs": list(classifier.runs),
        "n_tumor": classifier.n_tumor,
        "n_normal": classifier.n_normal,
        **{name: np.asarray(getattr(classifier.forest, name), f"<{kind}") for name, kind in _ARRAYS.items()},
    }
    packed = skops.dumps(content, compression=zipfile.ZIP_DEFLATED, compresslevel=6)
    with placed(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(packed)


def load_classifier(path: Path) -> SlideClassifier:
    """Read a classifier from a file that need not be trusted.

    Raises
    ------
    InputError
        When it is missing, damaged, no classifier of this format, or holds anything but plain values and arrays.
    """
    skops = _skops()
    with input_errors(path):
        if path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: is too large for a slide classifier")
        data = path.read_bytes()
    try:
        _check_plain(data)
        content = skops.loads(data, trusted=[])
        return _classifier_of(content)
    except Exception as error:  # whatever a hostile file provokes below is the file's fault
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: no usable slide classifier: {reason}; fit it again with classify fit") from error


def _skops() -> Any:
    require_extra("classify", "a slide classifier")
    import skops.io

    return skops.io


def _check_plain(data: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError("unpacks to more than a slide classifier holds")
        schema = json.loads(archive.read("schema.json"))
    for module, name, loader in _kinds_in(schema):
        if (module, name, loader) not in _PLAIN:
            raise ValueError(f"holds {module}.{name}, which no classifier of this program does")


def _kinds_in(entry: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Module, class and loader of every entry of a schema that has any of them."""
    waiting = [entry]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if {"__class__", "__module__", "__loader__"} & one.keys():
                yield one.get("__module__"), one.get("__class__"), one.get("__loader__")
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


def _classifier_of(content: Any) -> SlideClassifier:
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    kind, bins = FeatureKind(content["features"]), int(content["bins"])
    if not 1 <= bins <= 1000:
        raise ValueError(f"has {bins} bins")
    arrays = {}
    for name, expected in _ARRAYS.items():
        array = content[name]
        if not isinstance(array, np.ndarray) or array.dtype != np.dtype(f"<{expected}") or array.ndim != 1:
            raise ValueError(f"{name} is no list of {expected}")
        arrays[name] = array
    return SlideClassifier(
        kind=kind,
        bins=bins,
        forest=Forest(n_features=len(feature_names(kind, bins)), **arrays),
        level_sha256=tuple(str(sha256) for sha256 in content["level_sha256"]),
        runs=tuple(str(run) for run in content["runs"]),
        n_tumor=int(content["n_tumor"]),
        n_normal=int(content["n_normal"]),
    )
