"""Exit codes are those of the design's table."""

from __future__ import annotations

import errno
import os

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


OF_THE_MACHINE = [
    OSError(errno.EIO, "Input/output error", "a.tif"),
    OSError(errno.ESTALE, "Stale file handle"),
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EMFILE, "Too many open files"),
    OSError(errno.ENOLCK, "No locks available"),
    TimeoutError(errno.ETIMEDOUT, "Connection timed out"),
    BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    MemoryError("Unable to allocate 3. GiB for an array"),
    RuntimeError("can't start new thread"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("[ONNXRuntimeError] : 6 : Failed to allocate memory for requested buffer of size 9"),
    ImportError("libopenblas.so: failed to map segment from shared object"),
    ValueError("cannot read: Input/output error"),
]
OF_OURS = [
    ValueError("no room for the bins"),
    ZeroDivisionError(),
    ImportError("No module named 'numpy'"),
    FileNotFoundError(errno.ENOENT, "No such file or directory", "package/data.bin"),
    OSError(errno.EBADF, "Bad file descriptor"),
    errors.InternalError("tiles do not add up"),
]


@pytest.mark.parametrize("error", OF_THE_MACHINE, ids=repr)
def test_what_the_machine_lacks_is_one_line_and_74(error):
    assert not errors.is_bug(error)
    assert errors.exit_code_of(error) == errors.ExitCode.IO
    report = errors.failure_report(error, 1, 3, "n1")
    assert report.startswith("pyramidai: error: ")
    assert report.count("\n") == 1


@pytest.mark.parametrize("error", OF_OURS, ids=repr)
def test_what_is_nobodys_fault_is_ours(error):
    assert errors.is_bug(error)
    assert errors.exit_code_of(error) == errors.ExitCode.INTERNAL
    assert "Traceback" in errors.failure_report(error, 1, 3, "n1") or "Error" in errors.failure_report(error, 0, 1, "n")


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, errors.InputError),
        (errno.EACCES, errors.InputError),
        (errno.EISDIR, errors.InputError),
        (errno.ENAMETOOLONG, errors.InputError),
        (errno.EIO, errors.StorageError),
        (errno.ESTALE, errors.StorageError),
        (errno.EMFILE, errors.StorageError),
        (errno.ETIMEDOUT, errors.StorageError),
        (errno.ENOMEM, errors.StorageError),
    ],
)
def test_an_input_that_cannot_be_read_is_blamed_on_its_path_or_on_the_machine(number, kind):
    with pytest.raises(errors.PyramidError) as caught, errors.input_errors("a.tif"):
        raise OSError(number, os.strerror(number), "a.tif")
    assert type(caught.value) is kind
    assert f"a.tif: cannot be read: {os.strerror(number)}" in str(caught.value)
