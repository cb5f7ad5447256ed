"""Who has much to send waits until it was taken; who takes it in takes no more than there is room for."""

from __future__ import annotations

import threading
import time

from pyramidai_mpi.run.pool import mailbox
from pyramidai_mpi.run.pool.mailbox import Mailbox
from pyramidai_mpi.run.pool.messages import Kind, encode
from pyramidai_mpi.testing.memory_cluster import MemoryNetwork

BATCH, N = bytes(1 << 20), 200


def test_what_is_under_way_stays_within_bounds_and_all_arrives(monkeypatch):
    monkeypatch.setattr(mailbox, "MOST_BYTES", 4 << 20)
    network = MemoryNetwork(2)
    taken, waiting = [], [0]

    def receive(source, kind, slide, payload):
        assert kind is Kind.RECORDS
        waiting[0] += len(payload)
        taken.append((source, len(payload)))

    def owner_of(_slide):
        return 0

    boxes = [
        Mailbox(network.endpoint(0), receive, owner_of, lambda: waiting[0] < 3 << 20),
        Mailbox(network.endpoint(1), receive, owner_of),
    ]
    sent = [0, 0]

    def work(rank):
        for _ in range(N):
            boxes[rank].send_in_chunks(0, BATCH)
            sent[rank] += 1

    workers = [threading.Thread(target=work, args=(rank,), daemon=True) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    most = 0
    ends = time.monotonic() + 60
    while (any(worker.is_alive() for worker in workers) or not all(box.is_empty() for box in boxes)) and (
        time.monotonic() < ends
    ):
        for box in boxes:
            box.exchange(flush=True)
        most = max(most, waiting[0])
        under_way = sum(sent) * len(BATCH) - sum(n for _, n in taken)
        assert under_way < 16 << 20
        waiting[0] = 0  # the owner's thread has taken them
    assert sum(n for source, n in taken if source == 0) == sum(n for source, n in taken if source == 1) == N << 20
    assert most < 12 << 20


def test_who_waits_for_room_goes_on_when_ranks_are_lost(monkeypatch):
    monkeypatch.setattr(mailbox, "MOST_BYTES", 100)
    box = Mailbox(MemoryNetwork(2).endpoint(1), lambda *_: None, lambda _slide: 0)
    box.send(0, Kind.ASK, 0, bytes(200))
    waiting = threading.Thread(target=box.send_in_chunks, args=(0, b"abc"), daemon=True)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    box.give_up()
    waiting.join(30)
    assert not waiting.is_alive()


def test_who_begins_to_wait_for_an_answer_calls_the_main_thread_which_comes_often_until_it_is_there():
    network = MemoryNetwork(2)
    box = Mailbox(network.endpoint(1), lambda *_: None, lambda _slide: 0)
    called = threading.Event()
    box.wake = called.set
    assert not box.is_waiting()
    answers = []
    asking = threading.Thread(target=lambda: answers.append(box.beginning(3)), daemon=True)
    asking.start()
    assert called.wait(30)
    assert box.is_waiting()
    network.put(0, 1, encode(Kind.BEGIN, 3, (7).to_bytes(8, "little")))
    while asking.is_alive():
        box.exchange()
    assert [(tag, len(tiles)) for tag, tiles in answers] == [(7, 0)]
    assert not box.is_waiting()


def test_a_small_message_is_not_waited_for_and_a_large_one_is():
    network = MemoryNetwork(2)
    box = Mailbox(network.endpoint(1), lambda *_: None, lambda _slide: 0)
    for size, waits in ((100, False), (1 << 20, True)):
        box.send(0, Kind.RECORDS, 0, bytes(size))
        assert box.is_waiting(), "until it is sent"
        box.exchange()
        assert box.is_waiting() == waits
        while network.take(0, may_delay=False) is not None:
            pass
        box.exchange()
        assert not box.is_waiting()
