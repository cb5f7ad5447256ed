"""The end of an audit: orders that come late are done in a thread, or refused when the run is to stop."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from pyramidai_mpi.base.types import TILE_DTYPE
from pyramidai_mpi.run.pool.audits_end import AuditsEnd
from pyramidai_mpi.run.pool.messages import Kind, SlideEnd
from pyramidai_mpi.run.pool.recomputing import Recomputer
from pyramidai_mpi.run.pool.witness import Witness, order_bytes
from pyramidai_mpi.run.pool.workload import SlideOpener
from tests.pyramid.test_audited import tiles_of
from tests.run.test_audit import Cluster, Looked


class Post:
    """A mailbox that keeps what is sent."""

    def __init__(self, ended: bool = False) -> None:
        self.sent: list[tuple[Kind, int, bytes]] = []
        self.ended, self.gave_up = ended, False

    def send_to_owner(self, kind: Kind, slide: int, payload: bytes = b"") -> None:
        self.sent.append((kind, slide, payload))

    def has_ended(self, _slide: int) -> bool:
        return self.ended

    def give_up(self) -> None:
        self.gave_up = True


class AtHand:
    """An analysis on a slide that notes in which thread it is used."""

    def __init__(self, fails: Exception | None = None) -> None:
        self.threads: set[str] = set()
        self.fails = fails

    def look(self, tiles, _prepared, checked):
        assert checked.all()
        self.threads.add(threading.current_thread().name)
        if self.fails is not None:
            raise self.fails
        return Cluster(2, 1).look(1, tiles, 0)


def ended(post: Post, at_hand: AtHand, n_orders: int, *, stops: bool = False) -> tuple[Cluster, list[tuple]]:
    cluster = Cluster(2, 8)
    opener = SlideOpener(lambda _n: None, lambda _n, _d: None)
    recomputer = Recomputer(cluster.audit, Looked(), opener, post)
    for ticket in range(n_orders):
        recomputer.receive(3, order_bytes(ticket, 0, tiles_of(4)))
    with AuditsEnd(cluster.book, recomputer, lambda _slide: at_hand, lambda: stops) as rest:
        while not rest.is_idle:
            rest.go_on()
            time.sleep(0.001)
        assert rest.is_given_up == stops
    return cluster, post.sent


def test_orders_are_done_one_after_the_other_in_one_other_thread() -> None:
    at_hand = AtHand()
    _, sent = ended(Post(), at_hand, 5)
    answers = [Witness.from_bytes(payload, Looked()) for _, _, payload in sent]
    assert [ticket for ticket, _ in answers] == [0, 1, 2, 3, 4]
    assert all(len(witness.tasks) == 4 for _, witness in answers)
    (thread,) = at_hand.threads
    assert thread.startswith("pyramidai-audit")


@pytest.mark.parametrize(("stops", "is_ended"), [(True, False), (False, True)], ids=["to stop", "slide has ended"])
def test_what_nobody_waits_for_any_more_is_answered_and_not_done(stops: bool, is_ended: bool) -> None:
    at_hand = AtHand()
    _, sent = ended(Post(is_ended), at_hand, 3, stops=stops)
    assert len(sent) == 3
    assert all(not len(Witness.from_bytes(payload, Looked())[1].tasks) for _, _, payload in sent)
    assert not at_hand.threads


def test_a_slide_that_this_rank_cannot_read_ends_by_it() -> None:
    _, sent = ended(Post(), AtHand(OSError(5, "Input/output error")), 1)
    assert [kind for kind, _, _ in sent] == [Kind.REFUSED, Kind.AUDITED]
    assert "Input/output error" in SlideEnd.from_bytes(sent[0][2]).line


def test_an_order_is_of_the_tiles_that_were_asked_for() -> None:
    tiles = np.zeros(2, TILE_DTYPE)
    tiles["level"], tiles["col"] = 1, [7, 9]
    cluster, post = Cluster(2, 8), Post()
    opener = SlideOpener(lambda _n: None, lambda _n, _d: None)
    recomputer = Recomputer(cluster.audit, Looked(), opener, post)
    recomputer.receive(0, order_bytes(11, 0, tiles))
    recomputer.serve(lambda _slide: AtHand())
    ticket, witness = Witness.from_bytes(post.sent[0][2], Looked())
    assert ticket == 11
    assert witness.tasks.tobytes() == tiles.tobytes()
