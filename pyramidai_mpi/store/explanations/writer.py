"""Writing a file of explanations, by the slide's owner."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import InputError, InternalError
from pyramidai_mpi.store.explanations.contents import FORMAT, FORMAT_VERSION, explanation_digest
from pyramidai_mpi.store.explanations.reader import read_explanation
from pyramidai_mpi.store.files.placing import discard, flush_file, place, storage_errors, temporary_name
from pyramidai_mpi.store.results.failsafe_file import written_hdf5
from pyramidai_mpi.store.results.seal import seal_file
from pyramidai_mpi.store.results.writer import create_table, storable, write_execution, write_slide_and_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pyramidai_mpi.store.explanations.contents import Explanation

_CHUNK_BYTES = 1 << 20


def place_explanation(
    path: Path, explanation: Explanation, *, overwrite: bool = False, check: Callable[[], None] = lambda: None
) -> str:
    """Write a file of explanations under a temporary name, and give it its own; its digest.

    Parameters
    ----------
    overwrite, check
        As of `files.placing.place`.

    Raises
    ------
    OutputExistsError, StorageError
        Nothing is left under either name.
    """
    temporary = temporary_name(path)
    try:
        with storage_errors(temporary):
            digest = write_explanation(explanation, temporary)
            place(temporary, path, overwrite=overwrite, check=check)
            return digest
    finally:
        discard(temporary)


def write_explanation(
    explanation: Explanation, path: Path, created: datetime | None = None, software_version: str = __version__
) -> str:
    """Write the whole file, seal it, flush it, and read it back; its digest.

    Parameters
    ----------
    explanation
        What to write; its own digest, version and time are not looked at.
    path
        A temporary name.
    created, software_version
        What the file is to say of them; now and this version.

    Raises
    ------
    InternalError
        When it does not hold what was to be written.
    OSError
        When the disk fails.
    """
    digest = explanation_digest(explanation)
    with written_hdf5(path, "w") as file:
        file.attrs.update(
            format=FORMAT,
            format_version=FORMAT_VERSION,
            software_version=software_version,
            created=(created or datetime.now(UTC)).isoformat(timespec="seconds"),
            complete=False,
            n_tiles_failed=len(explanation.failed),
        )
        write_slide_and_model(file, explanation.slide, explanation.model)
        file.create_group("explanation").attrs.update(
            {
                "method": storable(explanation.method),
                "class": storable(explanation.class_name),
                "level": explanation.level,
                "layer": storable(explanation.layer),
                "downsample": float(explanation.downsample),
                "settings": explanation.settings_text,
            }
        )
        for name, rows in explanation.tiles.tables().items():
            row_bytes = rows.nbytes // max(len(rows), 1)
            create_table(file, f"tiles/{name}", rows, max(1, _CHUNK_BYTES // max(row_bytes, 1)))
        create_table(file, "failed", explanation.failed)
        write_execution(file, explanation.execution)
        file.attrs["digest"] = digest
        file.attrs["complete"] = True
    seal_file(path, [])
    flush_file(path)  # what cannot be kept is to fail here, before it is read back and named
    try:
        read_explanation(path)
    except InputError as error:
        raise InternalError(f"{path}: does not hold what was to be written: {error}") from error
    return digest
