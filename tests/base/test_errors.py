"""Exit codes are those of the design's table."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base import errors


@pytest.mark.parametrize(
    ("error", "code"),
    [("UsageError", 64), ("InputError", 65), ("InternalError", 70), ("OutputExistsError", 73), ("StorageError", 74)],
)
def test_every_kind_of_error_has_its_exit_code(error, code):
    kind = getattr(errors, error)
    assert kind.exit_code == code
    assert errors.ERROR_OF_EXIT_CODE[code] is kind
    assert issubclass(kind, errors.PyramidError)


def test_the_table_of_exit_codes_is_complete():
    assert {code.name: int(code) for code in errors.ExitCode} == {
        "OK": 0,
        "TILES_FAILED": 3,
        "SLIDES_FAILED": 4,
        "USAGE": 64,
        "BAD_INPUT": 65,
        "INTERNAL": 70,
        "OUTPUT_EXISTS": 73,
        "IO": 74,
        "STOPPED": 75,
    }
