"""Errors that one rank has are all ranks' errors, word for word."""

from __future__ import annotations

import pytest
from mpi4py import MPI

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.collectives import agree


@pytest.mark.parametrize("name", ["\udce9.tif", "\ud83d.tif"], ids=["bytes of a path", "half a character"])
def test_a_name_that_is_no_text_arrives_as_it_was(name):
    with pytest.raises(InputError) as caught:
        agree(MPI.COMM_SELF, InputError(f"{name}: damaged"))
    assert str(caught.value) == f"{name}: damaged"
