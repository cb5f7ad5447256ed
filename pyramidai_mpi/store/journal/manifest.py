"""What decides a run's result, written down beside its journal so that nothing else is ever mixed with it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError, own_file_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FORMAT = "pyramidai-journal/2"
_OLDER_FORMATS = frozenset({"pyramidai-journal/1"})
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Manifest:
    """What decides the result of one slide's run, as the program's table of it has it (`run.deciding`).

    Attributes
    ----------
    run_hash
        SHA-256 of all that may not differ within the run.
    facts
        What the run began with: values by name, as JSON has them.
    replaces
        Size and time (ns) of the file that the result is to replace, None when there is none. No part of the result.
    later_starts
        Versions and processor of the later starts that had others than those before them.
    word
        Hexadecimal digits that no other journal has: two copies of a slide have the same run hash. Empty in journals of
        before.
    """

    run_hash: str
    facts: Mapping[str, Any]
    replaces: tuple[int, int] | None = None
    later_starts: tuple[Mapping[str, Any], ...] = ()
    word: str = ""

    @property
    def tag(self) -> int:
        """Marks the journal's records, 64 bits."""
        return int((self.word or self.run_hash)[:16], 16)

    def to_bytes(self) -> bytes:
        """Canonical JSON: two lines, the document and its SHA-256."""
        document = json.dumps({"format": FORMAT, **asdict(self)}, sort_keys=True, separators=(",", ":")).encode()
        return document + b"\n" + hashlib.sha256(document).hexdigest().encode() + b"\n"


def read_manifest(path: Path) -> Manifest:
    """Read a manifest back.

    Raises
    ------
    InputError
        When it is damaged, or of another format.
    """
    with own_file_errors(path), path.open("rb") as file:
        text = file.read(_MOST_BYTES)
    return parse_manifest(text, path)


def parse_manifest(text: bytes, path: Path) -> Manifest:
    """A manifest from its bytes, of the file `path`.

    Raises
    ------
    InputError
        As `read_manifest`.
    """
    line, _, check = text.partition(b"\n")
    if check != hashlib.sha256(line).hexdigest().encode() + b"\n":
        raise InputError(f"{path}: damaged; start afresh with --overwrite")
    try:
        document = json.loads(line)
        form = str(document.pop("format"))
        if form == FORMAT:
            replaces, later_starts = document.pop("replaces"), document.pop("later_starts")
            if not all(isinstance(values, dict) for values in (document["facts"], *later_starts)):
                raise TypeError("its facts are no values by name")
            manifest = Manifest(
                **document,
                replaces=None if replaces is None else (int(replaces[0]), int(replaces[1])),
                later_starts=tuple(later_starts),
            )
            if manifest.tag < 0:
                raise ValueError("its run hash is none")
            return manifest
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: no manifest of a journal: {error!s:.200}; start afresh with --overwrite") from error
    whose = "an older" if form in _OLDER_FORMATS else "another"
    raise InputError(f"{path}: written by {whose} version of this program; finish with that one, or use --overwrite")
