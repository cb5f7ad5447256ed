"""Each row of docs/failures.md names a test that exists."""

from __future__ import annotations

import re

from pyramidai_mpi.testing.launch import REPOSITORY

PAGE = (REPOSITORY / "docs" / "failures.md").read_text()


def test_every_row_names_a_test_that_exists() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("|") and not re.match(r"\| (what happens|---)", line)]
    assert len(rows) > 30
    for row in rows:
        named = re.search(r"`(tests/[\w/]+\.py)::(test_\w+)` \|$", row)
        assert named, row
        assert f"def {named[2]}(" in (REPOSITORY / named[1]).read_text(), row
