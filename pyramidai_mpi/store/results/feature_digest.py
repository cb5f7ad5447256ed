"""The digest of features that an encoder gave: what it gives is its result, so equal results have equal ones."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InputError, printable
from pyramidai_mpi.store.results.tables import iter_column

if TYPE_CHECKING:
    from pyramidai_mpi.store.results.tables import Header, ResultFile

ATTRIBUTE = "features_digest"
"""Of the file: what `digest_of_features` gave when it was written."""


def digest_of_features(file: ResultFile, header: Header) -> str:
    """SHA-256 over the tiles, the encoder and its features as they are stored, 64 hexadecimal digits.

    Hashed are, each ended by a newline, the text ``pyramidai-features/1``, the digest of the tables, the hash of the
    encoder's network and, as JSON, rows, length and type of level 0's features; then their bytes, little-endian.

    Raises
    ------
    InputError
        When they cannot be read.
    """
    encoder, level = header.encoder or header.model, header.levels[0]
    shape = json.dumps([header.n_tiles[0], level.n_features, level.feature_type], separators=(",", ":"))
    text = ["pyramidai-features/1", str(header.digest), encoder.level_sha256[0], shape, ""]
    digest = hashlib.sha256("\n".join(text).encode())
    stored = np.dtype(level.feature_type).newbyteorder("<")
    for block in iter_column(file, 0, "features"):
        digest.update(np.ascontiguousarray(block, stored).data)
    return digest.hexdigest()


def checked_digest_of_features(file: ResultFile, header: Header) -> str:
    """The same of a finished file, compared with what was written.

    Raises
    ------
    InputError
        When it is another.
    """
    found, written = digest_of_features(file, header), str(file.attrs.get(ATTRIBUTE))
    if found != written:
        raise InputError(
            f"{file.filename}: its features give the digest {found[:16]}..., written was {printable(written):.16}...; "
            "run the analysis again"
        )
    return found
