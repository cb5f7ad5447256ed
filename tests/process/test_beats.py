"""Signs of life reach the neighbours, and only those of the same job count."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.process.beats import TOKEN_BYTES, Beats, neighbours, own_addresses, own_socket

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = bytes(range(TOKEN_BYTES))


@contextmanager
def job(size: int, tokens: list[bytes] | None = None) -> Iterator[list[Beats]]:
    """Processes of a job, all of them here."""
    sockets = [own_socket(here_only=True) for _ in range(size)]
    addresses = [[one.getsockname()] for one in sockets]
    tokens = tokens or [TOKEN] * size
    each = [Beats(number, addresses, own, tokens[number]) for number, own in enumerate(sockets)]
    yield each
    for one in each:
        one.close()


def meet(each: list[Beats]) -> None:
    for _ in range(2):
        for one in each:
            one.send()
            one.receive()


@pytest.mark.parametrize("size", [2, 9, 10, 128, 1000])
def test_neighbours_are_few_and_know_of_each_other_and_no_part_of_a_job_is_without_one_beyond(size: int) -> None:
    of = {number: neighbours(number, size) for number in range(size)}
    assert max(len(one) for one in of.values()) <= 9
    assert all(number in of[other] for number, others in of.items() for other in others)
    reached, new = {0}, [0]
    while new:
        new = [other for number in new for other in of[number] if other not in reached]
        reached.update(new)
    assert reached == set(range(size))  # so that no part can be cut off without cutting neighbours apart


def test_whoever_gives_signs_is_not_silent_and_the_one_that_gives_none_is() -> None:
    with job(3) as (first, second, third):
        meet([first, second, third])
        first.receive()
        for _ in range(4):
            first.count(10.0)
            second.send()
            first.receive()
        assert first.most_silent() == (2, 40.0)


def test_one_that_was_never_heard_of_says_nothing() -> None:
    with job(2) as (first, _):
        first.count(1000.0)
        assert first.most_silent() == (-1, 0.0)
        assert first.meet(0.0, pause=lambda _: None) == [1]


def test_who_has_met_the_others_knows_it_at_once() -> None:
    with job(2) as (first, second):
        second.send()
        assert first.meet(60.0, pause=lambda _: pytest.fail("it waits")) == []


def test_a_sign_that_was_not_heard_is_asked_for_again() -> None:
    with job(2) as (first, second):
        second.send()  # says that it has heard nothing of the first
        first.receive()
        second.receive()
        second.count(5.0)
        assert second.most_silent() == (0, 5.0)  # heard of by now


def test_a_neighbour_that_was_silent_for_long_is_sought_at_all_its_addresses() -> None:
    with job(2) as (first, second), own_socket(here_only=True) as of_a_way_that_failed:
        meet([first, second])
        meet([first, second])
        first._of[1].came_from = of_a_way_that_failed.getsockname()
        second.count(30.0)
        first.send()
        second.receive()
        assert second.most_silent() == (0, 30.0)
        first.count(30.0)
        first.send()
        second.receive()
        assert second.most_silent() == (0, 0.0)


def test_a_flood_of_datagrams_is_left_at_some_time() -> None:
    class Flood:
        def recvfrom(self, _size: int) -> tuple[bytes, tuple[str, int]]:
            return b"x", ("127.0.0.1", 1)

    with job(2) as (first, _), own_socket(here_only=True) as own:
        first._socket, own_of_first = Flood(), first._socket  # type: ignore[assignment]
        first.receive()
        first._socket = own_of_first
        assert own is not None


def test_whoever_has_said_farewell_is_not_waited_for() -> None:
    with job(3) as each:
        meet(each)
        first, second, _ = each
        second.say_farewell()
        first.receive()
        first.count(1000.0)
        assert first.most_silent() == (2, 1000.0)


def test_the_end_reaches_all_and_not_only_neighbours() -> None:
    with job(20) as each:
        each[13].end_all()
        for one in each:
            one.receive()
        assert [number for number, one in enumerate(each) if not one.is_over] == [13]


def test_other_jobs_and_strangers_are_not_heard() -> None:
    with job(2, [TOKEN, TOKEN[::-1]]) as (first, second), own_socket(here_only=True) as stranger:
        stranger.sendto(b"", first._socket.getsockname())
        stranger.sendto(b"x" * 100, first._socket.getsockname())
        second.send()
        second.end_all()
        first.receive()
        assert not first.is_over
        assert first.most_silent() == (-1, 0.0)


def test_a_job_of_one_host_can_be_reached_from_there_alone() -> None:
    assert own_addresses(here_only=True) == ["127.0.0.1"]
    with own_socket(here_only=True) as own:
        assert own.getsockname()[0] == "127.0.0.1"
    assert own_addresses(here_only=False)[-1] == "127.0.0.1"
