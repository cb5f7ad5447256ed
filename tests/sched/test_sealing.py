"""A message that was changed on its way is found."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base.errors import ExitCode, StorageError
from pyramidai_mpi.sched.sealing import sealed, unsealed


@pytest.mark.parametrize("data", [b"", b"a", bytes(range(200))], ids=["empty", "one byte", "200 bytes"])
def test_what_was_sealed_comes_back(data: bytes) -> None:
    assert unsealed(bytearray(sealed(data)), 0) == data


def test_every_flipped_bit_is_found() -> None:
    whole = sealed(b"thirty tiles of level 2")
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageError, match="from rank 7") as caught:
            unsealed(damaged, 7)
        assert caught.value.exit_code == ExitCode.IO


@pytest.mark.parametrize("length", range(9))
def test_a_message_that_lost_its_end_is_found(length: int) -> None:
    with pytest.raises(StorageError):
        unsealed(bytearray(sealed(b"tiles!")[:length]), 1)
