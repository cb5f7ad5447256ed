"""What a process makes can be read by its owner, whatever umask it was started with."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.process.umask import keep_owners_rights

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("asked", "told", "mode"), [(0o777, 0o777, 0o600), (0o377, 0o377, 0o600), (0o077, 0, 0o600), (0o002, 0, 0o664)]
)
def test_only_the_rights_of_others_are_taken(asked: int, told: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(asked)
    try:
        assert keep_owners_rights() == told
        (tmp_path / "file").touch()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == mode
