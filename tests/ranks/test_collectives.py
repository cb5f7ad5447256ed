"""What each rank gets from the collectives, and which error, on one, two and three ranks."""

from __future__ import annotations

import json

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.collectives import agree
from pyramidai_mpi.testing.launch import mpirun

pytestmark = pytest.mark.mpi


@pytest.fixture(scope="module", params=[1, 2, 3], ids=lambda size: f"{size} ranks")
def each(request):
    """What each rank got, by the words of `run_collectives`."""
    job = mpirun(request.param, ["tests/ranks/run_collectives.py"])
    assert job.returncode == 0
    assert not job.left_over
    everyone = json.loads(job.stdout)
    assert len(everyone) == request.param
    return everyone


def same_on_all(each, word):
    """What all ranks got alike."""
    first = each[0][word]
    assert all(rank[word] == first for rank in each)
    return first


def text_of(error):
    """Bytes of an error's text, as the failing rank had them."""
    return bytes.fromhex(error[1])


def test_every_rank_sees_every_rank_s_numbers(each):
    assert same_on_all(each, "allgather") == [[rank, -rank] for rank in range(len(each))]


def test_without_an_error_nothing_is_raised(each):
    assert same_on_all(each, "no error") is None


def test_an_error_of_one_rank_is_raised_on_all_with_its_class_text_and_place(each):
    name, _, agreed = error = same_on_all(each, "last fails")
    assert (name, agreed) == ("InputError", True)
    place = f" (rank {len(each) - 1}, host ".encode() if len(each) > 1 else b""
    assert text_of(error).startswith(b"tile \xff is odd" + place)  # also a name that is no UTF-8


def test_of_several_errors_that_of_the_lowest_rank_counts(each):
    name, _, agreed = error = same_on_all(each, "all fail")
    assert (name, text_of(error), agreed) == ("StorageError", b"full", True)


def test_ranks_with_the_same_file_agree_on_it(each):
    assert same_on_all(each, "same") is None


def test_a_file_that_differs_on_one_rank_is_an_error_on_all(each):
    error = same_on_all(each, "differs")
    if len(each) == 1:  # it cannot differ from itself
        assert error is None
    else:
        assert error[0] == "InputError"
        assert text_of(error).startswith(b"the model is another one on host ")


def test_what_rank_0_does_gives_its_value_there_and_its_error_everywhere(each):
    assert [rank["value"] for rank in each] == ["made"] + [None] * (len(each) - 1)
    name, _, agreed = error = same_on_all(each, "rank 0 fails")
    assert (name, text_of(error), agreed) == ("StorageError", b"the disk is full", True)


def test_bytes_of_any_rank_reach_all_in_pieces(each):
    assert same_on_all(each, "bytes") == bytes(range(40)).hex()
    assert same_on_all(each, "no bytes") == ""


def test_ranks_with_one_trait_find_each_other(each):
    assert [rank["alike"] for rank in each] == [
        [other for other in range(len(each)) if other % 2 == rank % 2] for rank in range(len(each))
    ]


def test_records_are_gathered_on_rank_0_in_the_order_of_ranks(each):
    expected = [[rank, 10 * rank + n] for rank in range(len(each)) for n in range(3 * rank)]
    assert each[0]["records"] == [True, expected]
    assert each[0]["no records"] == [True, []]
    assert all(rank["records"] is None and rank["no records"] is None for rank in each[1:])


def test_rows_are_dealt_to_the_ranks_that_they_are_for(each):
    assert [rank["scattered"] for rank in each] == [[[to] * 3] * (2 * to) for to in range(len(each))]


def test_rows_are_exchanged_between_all_ranks_in_the_order_of_senders(each):
    for to, rank in enumerate(each):
        assert rank["exchanged"] == [[sender, to] for sender in range(len(each)) for _ in range(to + 1)]
        assert rank["nothing exchanged"] == [0, 2]


@pytest.mark.parametrize("name", ["\udce9.tif", "\ud83d.tif"], ids=["bytes of a path", "half a character"])
def test_a_name_that_is_no_text_arrives_as_it_was(name):
    from mpi4py import MPI

    with pytest.raises(InputError) as caught:
        agree(MPI.COMM_SELF, InputError(f"{name}: damaged"))
    assert str(caught.value) == f"{name}: damaged"
