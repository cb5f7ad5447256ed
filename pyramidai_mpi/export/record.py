"""Which result each export was made of: ``NAME.exports.json`` beside ``NAME.h5``.

Once another run has replaced a result, nothing tells what lies beside it from what belongs there, and not every kind of
export has a place where it could say so itself: a comment in a CSV would keep pandas from reading it. So one small file
says it for all kinds: for each export that this program made beside the result, the result's digest and time, how it
was asked for, and the SHA-256 of what was written. One that somebody has changed or put there shows, as its bytes are
others.

An entry is written before the export, without SHA-256, and completed after it: whatever a killed process has left under
the name is known as its own.
"""

from __future__ import annotations

import hashlib
import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import OutputExistsError, input_errors
from pyramidai_mpi.base.presence import is_there
from pyramidai_mpi.store.explanations.contents import FORMAT as EXPLANATION
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.files.placing import placed
from pyramidai_mpi.store.results.reader import format_of, open_result
from pyramidai_mpi.store.results.tables import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FORMAT = "pyramidai-exports/1"

_PATIENCE_S = 30.0
_POLL_S = 0.05
_MOST_BYTES = 1 << 20


class Standing(Enum):
    """What lies under an export's name."""

    FREE = "nothing"
    CURRENT = "the export of this result, asked for in the same way"
    OLD = "an export of ours, but of another result, or asked for otherwise, or not finished"
    FOREIGN = "what this program has not made, or somebody has changed"


@dataclass(frozen=True)
class Origin:
    """What an export is made of, and how.

    Attributes
    ----------
    digest, created
        Of the result: its digest, and when it was written.
    format, variant
        Name of the format and, "" for the plain one, in which other way it was written (`formats.Order.way`).
    over_slide
        It was drawn over the slide.
    """

    digest: str
    created: str
    format: str
    variant: str
    over_slide: bool


class ExportRecord:
    """The exports beside one result.

    Parameters
    ----------
    result
        The result file.

    Raises
    ------
    InputError
        When the result cannot be read.
    OutputExistsError
        When something else has the record's name.
    """

    def __init__(self, result: Path) -> None:
        self.slide_name, *self._result = _said_by(result)
        self._folder = result.parent
        self._path = record_path(result)
        self._entries()

    def origin(self, format_name: str, variant: str, *, over_slide: bool) -> Origin:
        """Of an export of this result."""
        digest, created = self._result
        return Origin(digest, created, format_name, variant, over_slide)

    def standing(self, target: Path, origin: Origin, files: Sequence[Path]) -> Standing:
        """What lies under an export's name.

        Parameters
        ----------
        target
            File, or folder.
        origin
            What is to lie there.
        files
            All files there that belong to it.
        """
        if not files:
            return Standing.FREE
        entry = self._entries().get(target.name)
        if entry is None:
            return Standing.FOREIGN
        if entry["sha256"] is None:
            return Standing.OLD
        if entry["sha256"] != hash_of(target, files):
            return Standing.FOREIGN
        is_same = all(entry.get(name) == value for name, value in asdict(origin).items())
        return Standing.CURRENT if is_same else Standing.OLD

    def begin(self, target: Path, origin: Origin) -> None:
        """An export is about to be made."""
        self._put(target, {**asdict(origin), "sha256": None})

    def end(self, target: Path, origin: Origin, files: Sequence[Path]) -> None:
        """It is made."""
        self._put(target, {**asdict(origin), "sha256": hash_of(target, files)})

    def _put(self, target: Path, entry: dict[str, Any]) -> None:
        with _locked(self._path):
            entries = {**self._entries(), target.name: entry}
            text = json.dumps({"format": FORMAT, "exports": dict(sorted(entries.items()))}, indent=1) + "\n"
            with placed(self._path, overwrite=True) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def _entries(self) -> dict[str, dict[str, Any]]:
        if not is_there(self._path):
            return {}
        try:
            with input_errors(self._path), self._path.open("rb") as file:
                document = json.loads(file.read(_MOST_BYTES))
            if document["format"] != FORMAT or not all("sha256" in entry for entry in document["exports"].values()):
                raise ValueError(FORMAT)
            entries: dict[str, dict[str, Any]] = document["exports"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise OutputExistsError(
                f"{self._path}: is no record of exports of this program, for which this name is kept; move it away"
            ) from error
        return entries


def _said_by(result: Path) -> tuple[str, str, str]:
    """Name of the slide, digest and time of a result or of explained tiles."""
    if format_of(result) == EXPLANATION:
        explanation = read_explanation(result)
        return explanation.slide.name, explanation.digest, explanation.created
    with open_result(result) as file:
        header = read_header(file)
        return header.slide.name, header.digest or "", header.created


def slide_name_of(result: Path) -> str:
    """Name of the slide of a result or of explained tiles.

    Raises
    ------
    InputError
        When it cannot be read.
    """
    return _said_by(result)[0]


def record_path(result: Path) -> Path:
    """Where the record of a result's exports lies."""
    return result.with_name(f"{result.stem}.exports.json")


def hash_of(target: Path, files: Sequence[Path]) -> str:
    """SHA-256 over names, within a folder, and bytes of an export's files.

    Raises
    ------
    InputError
        When one cannot be read.
    """
    whole = hashlib.sha256()
    for path in sorted(files):
        with input_errors(path), path.open("rb") as file:
            name = "" if path == target else str(path.relative_to(target))
            whole.update(f"{name!r} {hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    return whole.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Another process holds it as long as it takes to write a small file."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            lock = OutputLock.take(path)
            break
        except OutputExistsError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_POLL_S)
    try:
        yield
    finally:
        lock.release()
