"""Files of GeoJSON features as QuPath opens them: the collection, and its classifications."""

from __future__ import annotations

import gzip
import json
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO, TYPE_CHECKING, cast

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.store.files.placing import placed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pyramidai_mpi.store.results.tables import Header

# Told apart with the common colour-vision deficiencies (Okabe and Ito 2008, but for the red).
POSITIVE = (200, 0, 0)
ZOOMED = (240, 228, 66)
UNREADABLE = (128, 128, 128)
# One for each further class.
OTHERS = ((0, 114, 178), (0, 158, 115), (230, 159, 0), (86, 180, 233), (204, 121, 167))
_GZIP_LEVEL = 3


class FeatureCollection:
    """Features on their way to a file.

    Parameters
    ----------
    out
        Takes the bytes.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._separator = b"\n"

    def add(self, features: Sequence[str]) -> None:
        """Append features, each a JSON text."""
        if features:
            self._out.write(self._separator + ",\n".join(features).encode())
            self._separator = b",\n"


def feature_collection(
    target: Path, header: Header, *, overwrite: bool, inputs: Sequence[Path]
) -> AbstractContextManager[FeatureCollection]:
    """`collection_of` a result's model."""
    model = header.model
    return collection_of(target, model.name, model.intended_use, overwrite=overwrite, inputs=inputs)


@contextmanager
def collection_of(
    target: Path, model: str, intended_use: str | None, *, overwrite: bool, inputs: Sequence[Path]
) -> Iterator[FeatureCollection]:
    """Open a GeoJSON file, compressed when its name ends in ``.gz``; it gets its name when all is written.

    What the model's scores may be used for, where its package says so, stands before the features, under ``model``: a
    foreign member, which readers pass over (RFC 7946, section 6.1).

    Raises
    ------
    OutputExistsError, StorageError
        When the target is in the way or cannot be written.
    """
    with ExitStack() as stack:
        temporary = stack.enter_context(placed(target, overwrite=overwrite, inputs=inputs))
        out: IO[bytes] = stack.enter_context(temporary.open("wb"))
        if target.suffix == ".gz":
            # neither name nor time within: equal results give equal files
            zipped = gzip.GzipFile(filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=out, mtime=0)
            out = cast("IO[bytes]", stack.enter_context(zipped))
        out.write(f'{{"type":"FeatureCollection",{_model_member(model, intended_use)}"features":['.encode())
        yield FeatureCollection(out)
        out.write(b"\n]}\n")


def _model_member(model: str, intended_use: str | None) -> str:
    """What the collection says of the model, with a comma behind; empty where there is nothing to say."""
    if not (claim := claim_of(intended_use)):
        return ""
    facts = {"name": model, "intended_use": intended_use, "note": claim}
    return f'"model":{json.dumps(facts, ensure_ascii=False)},'


def classification(name: str, colour: tuple[int, int, int]) -> str:
    """QuPath's classification as a JSON text."""
    return json.dumps({"name": name, "color": list(colour)}, ensure_ascii=False, separators=(",", ":"))


def positive_classification(header: Header) -> str:
    """The positive class as a classification."""
    return classification(header.model.positive_class, POSITIVE)
