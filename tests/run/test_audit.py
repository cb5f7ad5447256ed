"""Auditing in memory: ranks that lie, alone or two, in any order of messages, are named; lies are found as often as
arithmetic says."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
from scipy.stats import binom

from pyramidai_mpi.analyses.base import Look
from pyramidai_mpi.base.errors import ExitCode, InternalError
from pyramidai_mpi.base.types import TILE_DTYPE, prediction_dtype, tile_keys
from pyramidai_mpi.run.pool.audit import AuditBook, Vote, verdict_on
from pyramidai_mpi.run.pool.messages import Kind
from pyramidai_mpi.run.pool.record_table import RecordTable
from pyramidai_mpi.run.pool.witness import EARLIER, Audit, Witness, order_bytes, order_from_bytes, record_in_words
from tests.pyramid.test_audited import tiles_of

RECORD = prediction_dtype(2)


class Looked:
    """What a book knows of an analysis."""

    task = TILE_DTYPE
    record = RECORD
    widths = (0,)


def truth(tiles: np.ndarray) -> np.ndarray:
    found = np.zeros(len(tiles), RECORD)
    for name in TILE_DTYPE.names:
        found[name] = tiles[name]
    found["probability"][:, 1] = (tile_keys(tiles) % np.uint64(101)).astype(np.float32) / 101
    found["probability"][:, 0] = 1 - found["probability"][:, 1]
    found["decision"] = found["probability"][:, 1] >= 0.5
    return found


@dataclass
class Cluster:
    """Ranks that do one slide of one level, owned by rank 0, without threads or MPI.

    `lies` are (rank, tile, copy): what that rank finds there with the networks at hand, 0, or loaded anew is wrong;
    copies are left out to stand for all. Pixels that are read wrongly are in `misreads` likewise.
    """

    n_ranks: int
    n_tiles: int
    lies: set[tuple[int, int, int]] = field(default_factory=set)
    misreads: set[tuple[int, int, int]] = field(default_factory=set)
    share: float = 1.0
    seed: int = 0
    hosts: tuple[str, ...] = ()
    processors: tuple[str, ...] = ()
    group_size: int = 4
    on_the_way: int = -1
    """Tile whose record arrives otherwise than it was sent."""

    def __post_init__(self) -> None:
        hosts = self.hosts or tuple(f"n{rank}" for rank in range(self.n_ranks))
        processors = self.processors or ("epyc",) * self.n_ranks
        self.audit = Audit(self.share, self.seed, hosts, processors, Looked)
        self.random = random.Random(self.seed)
        self.book = AuditBook(self.audit, Looked(), self.send, self.group_size)
        self.orders: list[tuple[int, bytes]] = []
        self.looks: Counter[tuple[int, int]] = Counter()
        self.doers: dict[int, int] = {}
        self.tiles = tiles_of(self.n_tiles, width=self.n_tiles)  # a tile is known by its column

    def begin(self) -> None:
        self.table = RecordTable(RECORD)
        self.book.begin(0, "ab", self.table)

    def record(self, rank: int, records: np.ndarray) -> None:
        first = len(self.table)
        self.table.append(records)
        self.book.recorded(0, rank, first)

    def send(self, destination: int, kind: Kind, slide: int, payload: bytes) -> None:
        assert (kind, slide) == (Kind.AUDIT, 0)
        self.orders.append((destination, payload))

    def look(self, rank: int, tiles: np.ndarray, copy: int) -> Look:
        records, pixels = truth(tiles), tile_keys(tiles).astype(np.uint32)
        for n, tile in enumerate(tiles["col"].tolist()):
            if (rank, tile, copy) in self.lies:
                records["probability"][n] = [0.75, 0.25] if records["decision"][n] else [0.25, 0.75]
                records["probability"][n, 1] += 0.001 * rank + 0.01 * copy
                records["decision"][n] ^= 1
            if (rank, tile, copy) in self.misreads:
                pixels[n] ^= 1 << 5
        return Look(records, tiles[:0], np.empty(0), pixels=pixels)

    def run(self) -> AuditBook:
        """All tiles, four at a time by a rank that a seed draws, with answers whenever it draws them."""
        self.begin()
        at = 0
        while at < self.n_tiles or self.orders or not self.book.is_settled(0):
            if self.book.failure is not None:
                break
            if at >= self.n_tiles:
                self.book.completed(0)
            if self.orders and (at >= self.n_tiles or self.random.random() < 0.5):
                self.answer(self.orders.pop(self.random.randrange(len(self.orders))))
            elif at < self.n_tiles:
                self.do(self.tiles[at : at + 4])
                at += 4
        return self.book

    def do(self, tiles: np.ndarray) -> None:
        rank = self.random.randrange(self.n_ranks)
        checked = self.book._slides[0].choice.chosen(tiles)
        look = self.look(rank, tiles, 0)
        self.doers |= dict.fromkeys(tiles["col"].tolist(), rank)
        if checked.any():
            self.book.witnessed(0, rank, Witness.of(tiles, look, checked).to_bytes())
        records = look.records.copy()
        records["decision"][tiles["col"] == self.on_the_way] ^= 1
        while self.orders and self.random.random() < 0.3:  # answers may come before the records
            self.answer(self.orders.pop())
        self.record(rank, records)

    def answer(self, order: tuple[int, bytes]) -> None:
        rank, payload = order
        ticket, fresh, tasks = order_from_bytes(payload, TILE_DTYPE)
        for tile in tasks["col"].tolist():
            assert rank != self.doers[tile] or fresh, "nobody audits itself with the networks that it worked with"
            self.looks[rank, tile] += 1
        checked = np.ones(len(tasks), bool)
        self.book.answered(0, rank, Witness.of(tasks, self.look(rank, tasks, fresh), checked).to_bytes(ticket))


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_honest_ranks_settle_every_chosen_tile_by_one_more_look(n_ranks: int, seed: int) -> None:
    cluster = Cluster(n_ranks, 200, share=0.3, seed=seed)
    book = cluster.run()
    assert book.failure is None
    chosen = cluster.audit.choice("ab").chosen(cluster.tiles)
    assert sum(cluster.looks.values()) == chosen.sum()
    assert book.end(0) == chosen.sum()
    assert not book.waits


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(10))
def test_who_lies_once_is_named_and_nobody_else(n_ranks: int, seed: int) -> None:
    trial = Cluster(n_ranks, 40, seed=seed)
    trial.run()
    liar = trial.doers[17]
    cluster = Cluster(n_ranks, 40, {(liar, 17, 0)}, seed=seed)
    book = cluster.run()
    assert book.suspects == {liar}
    assert book.failure is not None
    assert book.failure.exit_code == ExitCode.IO
    text = str(book.failure)
    assert f"level 0, column 17, row 0: rank {liar} (host n{liar}) found" in text
    assert f"rank {liar} (host n{liar}) has computed otherwise of the same pixels" in text
    assert record_in_words(truth(cluster.tiles[17:18])) in text
    assert not book.is_settled(0)


@pytest.mark.parametrize("n_ranks", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_an_auditor_that_lies_is_named_and_not_the_rank_that_it_audits(n_ranks: int, seed: int) -> None:
    for liar in range(n_ranks):
        cluster = Cluster(n_ranks, 400, seed=seed)
        cluster.run()
        audited = [tile for (rank, tile) in cluster.looks if rank == liar]
        lies = {(liar, audited[0], 0)}
        book = Cluster(n_ranks, 400, lies, seed=seed).run()
        assert book.suspects == {liar}


def test_other_pixels_are_told_from_other_computing() -> None:
    trial = Cluster(3, 40, seed=1)
    trial.run()
    liar = trial.doers[9]
    book = Cluster(3, 40, misreads={(liar, 9, 0)}, seed=1).run()
    assert book.suspects == {liar}
    assert f"rank {liar} (host n{liar}) has read other pixels" in str(book.failure)


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_a_record_that_changes_on_the_way_is_found_and_no_rank_is_suspected(n_ranks: int) -> None:
    book = Cluster(n_ranks, 40, on_the_way=23).run()
    assert "it was changed on the way or in memory" in str(book.failure)
    assert book.suspects == frozenset()


def test_two_ranks_that_each_repeat_themselves_are_both_suspects() -> None:
    lies = {(1, tile, copy) for tile in range(40) for copy in (0, 1, 2)}
    book = Cluster(2, 40, {(1, tile, 0) for tile, _, _ in lies}, seed=3).run()
    assert book.suspects == {1}, "its networks loaded anew are right"

    class Constant(Cluster):
        def look(self, rank: int, tiles: np.ndarray, copy: int) -> Look:
            return super().look(rank, tiles, 0)

    book = Constant(2, 40, lies, seed=3).run()
    assert book.suspects == {0, 1}
    assert "who is wrong cannot be told of rank 0 (host n0) and rank 1 (host n1)" in str(book.failure)


def test_other_hosts_audit_where_there_are_any_and_other_processors_never() -> None:
    cluster = Cluster(5, 400, hosts=("a", "a", "b", "b", "c"), processors=("x", "x", "x", "x", "y"))
    assert cluster.run().failure is None
    for rank, tile in cluster.looks:
        doer = cluster.doers[tile]
        assert (rank == 4) == (doer == 4), "the only one of its processor audits itself by networks loaded anew"
        assert doer == 4 or cluster.audit.hosts[rank] != cluster.audit.hosts[doer]


def test_auditors_share_the_work() -> None:
    cluster = Cluster(4, 2000)
    cluster.run()
    of_rank = Counter(rank for rank, _ in cluster.looks)
    assert max(of_rank.values()) < 1.3 * 2000 / 4


@pytest.mark.parametrize(("share", "n_lies"), [(0.01, 10), (0.1, 5), (0.3, 2)])
def test_lies_are_caught_as_often_as_arithmetic_says(share: float, n_lies: int) -> None:
    """A rank lies of some of 200 tiles: with a share p audited it is found with probability 1 - (1 - p)^lies."""
    trials, caught = 300, 0
    rng = np.random.default_rng(n_lies)
    for seed in range(trials):
        liars = rng.choice(200, n_lies, replace=False).tolist()
        cluster = Cluster(3, 200, {(1, tile, 0) for tile in liars}, share=share, seed=seed)
        cluster.random.randrange = lambda n: 1 if n == 3 else 0  # all are done by the rank that lies
        book = cluster.run()
        caught += book.failure is not None
        if book.failure is not None:
            assert book.suspects == {1}
    expected = 1 - (1 - share) ** n_lies
    assert binom.ppf(1e-5, trials, expected) <= caught <= binom.ppf(1 - 1e-5, trials, expected)


def test_what_an_earlier_start_has_done_is_audited_by_whoever_is_there() -> None:
    for n_ranks, wrong in product((1, 2, 3), (False, True)):
        cluster = Cluster(n_ranks, 40)
        records = truth(cluster.tiles)
        if wrong:
            records["probability"][5] = 0.5
        cluster.begin()
        cluster.table.append(records)
        cluster.doers = dict.fromkeys(range(40), EARLIER)
        cluster.book.restored(0, cluster.tiles)
        cluster.book.completed(0)
        while not cluster.book.is_settled(0) and cluster.book.failure is None:
            cluster.answer(cluster.orders.pop())
        assert (cluster.book.failure is not None) == wrong
        assert cluster.book.suspects == (frozenset({EARLIER}) if wrong else frozenset())
        if wrong:
            assert "start afresh with --overwrite" in str(cluster.book.failure)


def test_a_chosen_tile_whose_rank_says_nothing_is_a_bug() -> None:
    cluster = Cluster(2, 8)
    cluster.begin()
    with pytest.raises(InternalError, match="rank 1"):
        cluster.record(1, truth(cluster.tiles))


def test_a_run_that_stops_settles_nothing_more() -> None:
    cluster = Cluster(2, 40)
    cluster.begin()
    for at in range(0, 40, 4):
        cluster.do(cluster.tiles[at : at + 4])
    rank, payload = cluster.orders.pop()
    ticket, _, tasks = order_from_bytes(payload, TILE_DTYPE)
    nothing = np.zeros(len(tasks), bool)
    cluster.book.answered(0, rank, Witness.of(tasks, cluster.look(rank, tasks, 0), nothing).to_bytes(ticket))
    assert cluster.book.has_given_up
    assert not cluster.book.is_settled(0)
    assert cluster.book.failure is None


def vote(rank: int, value: float) -> Vote:
    record = np.zeros(1, RECORD)
    record["probability"] = value
    return Vote(rank, record, 1, 2)


@pytest.mark.parametrize(
    ("votes", "suspects"),
    [
        pytest.param([(0, 1)], None, id="one is none"),
        pytest.param([(0, 1), (1, 1)], set(), id="two agree"),
        pytest.param([(0, 1), (1, 2)], None, id="two differ"),
        pytest.param([(0, 1), (1, 2), (2, 1)], {1}, id="the third is with the first"),
        pytest.param([(0, 1), (1, 2), (2, 2)], {0}, id="the third is with the second"),
        pytest.param([(0, 1), (1, 2), (2, 3)], {0, 1, 2}, id="three differ"),
        pytest.param([(0, 1), (1, 2), (0, 2)], {0}, id="of two ranks, the first changes its mind"),
        pytest.param([(0, 1), (1, 2), (0, 1)], None, id="of two ranks, the first repeats itself"),
        pytest.param([(0, 1), (1, 2), (0, 1), (1, 1)], {1}, id="and the second changes its mind"),
        pytest.param([(0, 1), (1, 2), (0, 1), (1, 2)], {0, 1}, id="and the second repeats itself"),
        pytest.param([(0, 1), (0, 2), (0, 2)], {0}, id="of one rank two of three are right"),
        pytest.param([(0, 1), (0, 2), (0, 3)], {0}, id="one rank finds three things"),
        pytest.param([(EARLIER, 1), (0, 2), (0, 2)], {EARLIER}, id="an earlier start against one rank"),
        pytest.param([(EARLIER, 1), (0, 2), (1, 1)], {0}, id="an earlier start and one rank against another"),
    ],
)
def test_votes(votes: list[tuple[int, int]], suspects: set[int] | None) -> None:
    verdict = verdict_on([vote(*one) for one in votes])
    assert (None if verdict is None else verdict.suspects) == suspects


def test_zeros_of_either_sign_differ_and_nans_of_the_same_bits_do_not() -> None:
    assert not vote(0, 0.0).agrees(vote(1, -0.0))
    assert vote(0, float("nan")).agrees(vote(1, float("nan")))


@pytest.mark.parametrize("cut", [1, 4, 7, 9, 30])
def test_messages_that_are_no_whole_ones_are_refused(cut: int) -> None:
    tiles = tiles_of(3)
    look = Look(truth(tiles), tiles[:0], np.empty(0), pixels=np.arange(3, dtype=np.uint32))
    whole = Witness.of(tiles, look, np.array([True, False, True])).to_bytes(9)
    ticket, witness = Witness.from_bytes(whole, Looked())
    assert ticket == 9
    assert witness.records.tobytes() == look.records[[0, 2]].tobytes()
    assert witness.pixels.tolist() == [0, 2]
    order = order_bytes(7, 2, tiles)
    assert order_from_bytes(order, TILE_DTYPE)[:2] == (7, 2)
    for data, parse in ((whole, lambda data: Witness.from_bytes(data, Looked())),
                        (order, lambda data: order_from_bytes(data, TILE_DTYPE))):  # fmt: skip
        with pytest.raises(InternalError):
            parse(data[:-cut])
