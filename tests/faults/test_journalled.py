"""`bench.faults.journalled` counts what is known of each slide: by its result, else by its journal, never by both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bench.faults.journalled import known_tiles, tiles_by_tag
from pyramidai_mpi.analyses.base import FAILED_DTYPE
from pyramidai_mpi.base.types import prediction_dtype
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.format import RecordFormat
from pyramidai_mpi.store.journal.manifest import Manifest
from pyramidai_mpi.store.journal.writer import JournalWriter

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = RecordFormat(prediction_dtype(2), FAILED_DTYPE, (0,))


def write(folder: JournalFolder, name: str, *frames: tuple[int, int]) -> Path:
    """A rank's file with frames of so many tiles of slides with these tags."""
    folder.make()
    writer = JournalWriter(folder.path / name, FORMAT)
    for tag, n_tiles in frames:
        writer.append(tag, np.zeros(n_tiles, FORMAT.record), np.zeros(0, FAILED_DTYPE))
    writer.close()
    return folder.path / name


def test_tiles_of_finished_slides_and_of_the_journals_of_others_are_known(tmp_path):
    outputs = [tmp_path / f"{name}.h5" for name in "abcd"]
    manifests = [Manifest("0" * 64, {}, word=digit * 32) for digit in "123"]
    shared = JournalFolder.shared_beside(outputs[0])
    one, two, three = (manifest.tag for manifest in manifests)
    write(shared, "0001-00000000-00000.tiles", (one, 5), (two, 3), (one, 2))
    write(shared, "0001-00000000-00001.tiles", (three, 8), (two, 1))
    for output, manifest in zip(outputs[:2], manifests[:2], strict=True):
        JournalFolder.of(output).create(manifest)
    write(JournalFolder.of(outputs[1]), "0002-00000000-00000.tiles", (two, 4))
    outputs[2].touch()  # its manifest is gone, its frames still there
    assert known_tiles(outputs, lambda _: 100) == 5 + 2 + 3 + 1 + 4 + 100

    outputs[0].touch()  # finished as well, and not yet removed
    assert known_tiles(outputs, lambda _: 100) == 100 + 3 + 1 + 4 + 100

    for name in shared.files():
        (shared.path / name).unlink()
    assert known_tiles(outputs, lambda _: 100) == 100 + 4 + 100


def test_a_torn_frame_is_not_counted(tmp_path):
    path = write(JournalFolder(tmp_path), "0001-00000000-00000.tiles", (1, 5), (2, 3))
    whole = path.read_bytes()
    assert tiles_by_tag(path) == {1: 5, 2: 3}
    path.write_bytes(whole[:-1])
    assert tiles_by_tag(path) == {1: 5}
    path.write_bytes(whole[:7])
    assert tiles_by_tag(path) == {}
