"""What decides a run's result, written down beside its journal so that nothing else is ever mixed with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = "pyramidai-journal/1"
_MOST_BYTES = 1 << 20
_MOST_SHOWN = 60
_NOT_OF_THE_RESULT = frozenset({"cpu", "replaces"})


@dataclass(frozen=True)
class Manifest:
    """All that decides the result of one slide's run.

    Attributes
    ----------
    quickhash, mpp
        The slide, and µm per level-0 pixel.
    model_sha256, model_yaml_sha256, positive_class, thresholds
        The networks level by level, the rest of their package, and what is asked of it.
    mode, min_tissue, allow_upsampling, features
        Settings; `features` has the length of each level's vectors.
    tissue_method, tissue_mask_sha256
        How tissue was found, and what was found.
    stain
        How its stain is normalised, as JSON; empty for not at all.
    backend, precision, batch_shapes
        What ran the networks, and how.
    software_version, libraries
        Of this program, and of the libraries that read pixels and compute.
    cpu
        Processor on which the run began. On others the last bits of probabilities may differ, within one job as well: a
        matter of warning.
    replaces
        Size and time (ns) of the file that the result is to replace, None when there is none. No part of the result.
    """

    quickhash: str
    mpp: float
    model_sha256: tuple[str, ...]
    model_yaml_sha256: str
    positive_class: str
    thresholds: tuple[float, ...]
    mode: str
    min_tissue: float
    allow_upsampling: bool
    features: tuple[int, ...]
    tissue_method: str
    tissue_mask_sha256: str
    stain: str
    backend: str
    precision: str
    batch_shapes: tuple[int, ...]
    software_version: str
    libraries: tuple[str, ...]
    cpu: str = ""
    replaces: tuple[int, int] | None = None

    def to_bytes(self) -> bytes:
        """Canonical JSON: two lines, the facts and their SHA-256."""
        facts = _canonical({"format": FORMAT, **asdict(self)})
        return facts + b"\n" + hashlib.sha256(facts).hexdigest().encode() + b"\n"

    def run_hash(self) -> str:
        """SHA-256 of all that decides the result; the journal's files carry it."""
        return hashlib.sha256(_canonical(self._deciding())).hexdigest()

    def differences(self, other: Manifest) -> list[str]:
        """What differs from another manifest's, in words: this one's value first."""
        own, others = self._deciding(), other._deciding()
        return [
            f"{name} ({_shown(own[name])}, now {_shown(others[name])})" for name in own if own[name] != others[name]
        ]

    def _deciding(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if name not in _NOT_OF_THE_RESULT}


def read_manifest(path: Path) -> Manifest:
    """Read a manifest back.

    Raises
    ------
    InputError
        When it is damaged, or of another format.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read: {error.strerror or error}; check the disk and your rights"
        ) from error
    facts, _, check = text.partition(b"\n")
    if check != hashlib.sha256(facts).hexdigest().encode() + b"\n":
        raise InputError(f"{path}: damaged; start afresh with --overwrite")
    try:
        document = json.loads(facts)
        form = document.pop("format")
        known = {one.name for one in fields(Manifest)}
        if form == FORMAT and set(document) == known:
            return Manifest(**{name: _tuples(value) for name, value in document.items()})
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: no manifest of a journal: {error}; start afresh with --overwrite") from error
    raise InputError(f"{path}: written by another version of this program; finish with that one, or use --overwrite")


def _canonical(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_shown(one) for one in value) + "]"
    text = str(value)
    # hashes by their beginning
    return text if len(text) <= _MOST_SHOWN else f"{text[:12]}..."
