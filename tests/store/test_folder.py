"""The folder of a journal."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from pyramidai_mpi.store.journal.folder import MANIFEST_NAME, JournalFolder

if TYPE_CHECKING:
    from pathlib import Path


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.mark.parametrize("removed", range(4))
def test_a_kill_while_it_is_removed_leaves_no_files_without_their_manifest(
    removed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.unlink
    for number in range(20):  # the system lists a folder in an order of its own, by names or age
        folder = JournalFolder.of(tmp_path / f"{number}.h5")
        folder.make()
        names = [folder.file_of_rank(folder.first_start(), rank).name for rank in range(3)]
        for name in [MANIFEST_NAME, *names] if number % 2 else [*names, MANIFEST_NAME]:
            (folder.path / name).touch()
        left = iter(range(removed, -1, -1))

        def unlink(path: Any, **named: Any) -> None:
            if next(left) == 0:  # noqa: B023 - used within this turn
                raise Killed
            real(path, **named)

        monkeypatch.setattr(os, "unlink", unlink)
        with pytest.raises(Killed):
            folder.remove()
        monkeypatch.undo()
        assert (folder.path / MANIFEST_NAME).exists()
        assert folder.remove()
