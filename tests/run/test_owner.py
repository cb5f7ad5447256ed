"""The owners' protocol in memory: any order of messages, and ranks that die at any of them.

A world of ranks without threads, files or MPI: each rank opens slides and does their tiles in an order that a seed
draws, messages between any two ranks arrive in order, and in any order otherwise. What the ranks have journalled
survives them, as files do.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidai_mpi.analyses.base import FAILED_DTYPE, Seconds
from pyramidai_mpi.base.errors import ExitCode, InputError, InternalError, StorageError
from pyramidai_mpi.base.types import TILE_DTYPE, tile_keys, tiles_only
from pyramidai_mpi.pyramid.grid import Grid
from pyramidai_mpi.pyramid.resumption import find_frontier
from pyramidai_mpi.pyramid.rule import TileRule
from pyramidai_mpi.pyramid.tissue import TissueMap
from pyramidai_mpi.run.pool.messages import (
    Batch,
    Kind,
    SlideDescription,
    SlideEnd,
    encode_batch,
    records,
    untagged,
)
from pyramidai_mpi.run.pool.owner import Beginning, Owner
from tests.run.test_messages import INFO

RECORD = np.dtype([*TILE_DTYPE.descr, ("value", "<u4")])
LEVELS = 3


class Everything:
    """An analysis of all tiles: a record is a tile and a number that follows from it."""

    record = RECORD
    widths = (0, 2, 0)

    def first(self, rule):
        return rule.roots()

    def closer(self, rule, found):
        return rule.children(found)

    def contradictions(self, found):
        return np.zeros(len(found), bool)


def rule_of_slide(number: int) -> TileRule:
    grid = Grid.of_tiles(3 * 32, 2 * 32, 8, 2, LEVELS, 1.0)
    mask = np.random.default_rng(number).random((8, 12)) < 0.5
    if number == 2:
        mask[:] = False  # nothing to do
    return TileRule(TissueMap(grid, mask, 1), 0.0)


def whole_tree(number: int) -> np.ndarray:
    rule = rule_of_slide(number)
    found, wanted = [], rule.roots()
    while len(wanted):
        found.append(wanted)
        wanted = rule.children(wanted)
    return np.sort(tile_keys(np.concatenate([np.empty(0, TILE_DTYPE), *found])))


DESCRIPTION = SlideDescription(INFO, "ab" * 32, 0.25, "n1", np.zeros((2, 2), bool))


@dataclass
class Disk:
    """What survives the ranks: journals by slide, results, and who holds which slide."""

    journals: dict[int, list[Batch]] = field(default_factory=dict)
    results: dict[int, np.ndarray] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)


@dataclass
class Held:
    """A slide's place on that disk."""

    disk: Disk
    number: int
    replaces = False
    attributes = None
    fails = False

    def remove_journal(self) -> None:
        self.disk.journals.pop(self.number, None)

    def close(self) -> None:
        self.disk.held.discard(self.number)
        if self.fails:
            raise StorageError("the disk is full")


@dataclass
class World:
    """Ranks that open slides, do their tiles and own some of them; `step` lets one thing happen."""

    seed: int
    n_ranks: int
    n_slides: int
    disk: Disk = field(default_factory=Disk)
    refused: frozenset[int] = frozenset()
    """Slides that no rank can go on with after their first tiles."""

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.ends: dict[int, SlideEnd] = {}
        self.wires: dict[tuple[int, int], deque] = {}
        self.to_open = [slide for slide in range(self.n_slides) if slide not in self.disk.results]
        self.left = frozenset(self.to_open)
        self.tasks: list[tuple[int, int, np.ndarray]] = []  # rank, slide, tiles
        self.known: set[tuple[int, int]] = set()
        self.waiting: list[tuple[int, int, np.ndarray]] = []
        self.ended: set[tuple[int, int]] = set()
        self.complete: list[tuple[int, int, object]] = []
        self.owners = [
            Owner(
                [slide for slide in self.to_open if slide % self.n_ranks == rank],
                self.n_ranks,
                Everything(),
                self.begin,
                partial(lambda rank, slide, collected: self.complete.append((rank, slide, collected)), rank),
                partial(self.send, rank),
                lambda: 0.0,
            )
            for rank in range(self.n_ranks)
        ]

    def begin(self, number: int, _description: SlideDescription) -> Beginning:
        assert number not in self.disk.held
        self.disk.held.add(number)
        rule = rule_of_slide(number)
        done = self.disk.journals.setdefault(number, [])
        found = np.concatenate([np.empty(0, RECORD), *(batch.records for batch in done)])
        going_on = find_frontier(found, rule.roots(), rule.children)
        kept = going_on.kept
        restored = [] if not kept.any() else by_level(found[kept])
        return Beginning(None, rule, 100 + number, going_on.frontier, restored, Held(self.disk, number))

    def send(self, source: int, destination: int, kind: Kind, slide: int, payload: bytes = b"") -> None:
        self.wires.setdefault((source, destination), deque()).append((kind, slide, payload))

    def is_over(self) -> bool:
        return not (self.to_open or self.tasks or self.waiting or self.complete or any(self.wires.values()))

    def step(self) -> None:
        """One of all the things that may happen next."""
        wires = [wire for wire, messages in self.wires.items() if messages]
        choices = [*(["message"] * len(wires)), *(["task"] * len(self.tasks)), *(["open"] * len(self.to_open)),
                   *(["write"] * len(self.complete))]  # fmt: skip
        match self.random.choice(choices):
            case "message":
                self.deliver(self.random.choice(wires))
            case "task":
                self.do(self.tasks.pop(self.random.randrange(len(self.tasks))))
            case "open":
                slide = self.to_open.pop(self.random.randrange(len(self.to_open)))
                rank = self.random.randrange(self.n_ranks)
                self.send(rank, slide % self.n_ranks, Kind.OPENED, slide, DESCRIPTION.to_bytes())
            case "write":
                rank, slide, collected = self.complete.pop(self.random.randrange(len(self.complete)))
                self.disk.results[slide] = np.sort(tile_keys(collected.records.rows))
                collected.beginning.output.remove_journal()
                collected.close()
                self.owners[rank].has_finished(slide, SlideEnd(ExitCode.OK, "done"))

    def deliver(self, wire: tuple[int, int]) -> None:
        source, destination = wire
        kind, slide, payload = self.wires[wire].popleft()
        match kind:
            case Kind.DONE:
                assert destination == 0
                assert slide not in self.ends, "a slide ends once"
                self.ends[slide] = SlideEnd.from_bytes(payload)
            case Kind.BEGIN:
                self.known.add((destination, slide))
                self.hand_out(slide, records(untagged(payload)[1], TILE_DTYPE))
            case Kind.DESCRIPTION:
                tag, rest = untagged(payload)
                assert tag == 100 + slide
                assert SlideDescription.from_bytes(rest).quickhash == DESCRIPTION.quickhash
                self.known.add((destination, slide))
                self.tasks += [one for one in self.waiting if one[:2] == (destination, slide)]
                self.waiting = [one for one in self.waiting if one[:2] != (destination, slide)]
            case Kind.ENDED:
                self.ended.add((destination, slide))
            case _:
                self.owners[destination].handle(source, kind, slide, payload)

    def hand_out(self, slide: int, tiles: np.ndarray) -> None:
        """Tiles go to any rank, as stealing may have it."""
        for start in range(0, len(tiles), 2):
            self.tasks.append((self.random.randrange(self.n_ranks), slide, tiles[start : start + 2]))

    def do(self, task: tuple[int, int, np.ndarray]) -> None:
        rank, slide, tiles = task
        if (rank, slide) in self.ended:
            return
        if (rank, slide) not in self.known:
            if not any(one[:2] == (rank, slide) for one in self.waiting):
                self.send(rank, slide % self.n_ranks, Kind.ASK, slide)
            self.waiting.append(task)
            return
        if slide in self.refused:
            end = SlideEnd(ExitCode.BAD_INPUT, "was written to").to_bytes()
            self.send(rank, slide % self.n_ranks, Kind.REFUSED, slide, end)
            return
        for same_level in by_level(recorded(tiles)):
            self.disk.journals[slide].append(same_level)
            self.send(rank, slide % self.n_ranks, Kind.RECORDS, slide, encode_batch(same_level))
        self.hand_out(slide, rule_of_slide(slide).children(tiles))


def recorded(tiles: np.ndarray) -> np.ndarray:
    found = np.zeros(len(tiles), RECORD)
    for name in TILE_DTYPE.names:
        found[name] = tiles[name]
    found["value"] = tiles["col"] * 7 + tiles["row"]
    return found


def by_level(found: np.ndarray) -> list[Batch]:
    parts = [found[found["level"] == level] for level in range(LEVELS)]
    return [
        Batch(
            part,
            np.empty(0, FAILED_DTYPE),
            np.ones((len(part), 2), np.float32) if Everything.widths[int(part["level"][0])] else None,
            seconds=Seconds(0.1, 0.0, 0.2),
        )
        for part in parts
        if len(part)
    ]


def assert_all_done(world: World) -> None:
    assert world.ends.keys() == world.left
    for slide in range(world.n_slides):
        if slide not in world.refused:
            np.testing.assert_array_equal(world.disk.results[slide], whole_tree(slide))
    assert not world.disk.held
    assert all(owner.is_done for owner in world.owners)


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 5))
def test_every_slide_gets_its_whole_tree_in_any_order(seed: int, n_ranks: int, n_slides: int) -> None:
    world = World(seed, n_ranks, n_slides)
    while not world.is_over():
        world.step()
    assert_all_done(world)
    assert {end.exit_code for end in world.ends.values()} == {ExitCode.OK}
    assert not world.disk.journals


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(2, 5), st.lists(st.integers(1, 60), min_size=1, max_size=3))
def test_whoever_dies_at_whatever_message_the_others_begin_again_and_lose_nothing(
    seed: int, n_ranks: int, deaths: list[int]
) -> None:
    disk = Disk()
    for number, after in enumerate(deaths):
        world = World(seed + number, max(n_ranks - number, 1), 4, disk)
        for _ in range(after):
            if world.is_over():
                break
            world.step()
        # a rank dies: messages under way are lost, the survivors give back what they hold and leave
        for owner in world.owners:
            owner.close()
        for _, _, collected in world.complete:
            collected.close()
    before = {slide: result.tobytes() for slide, result in disk.results.items()}
    world = World(seed + 99, max(n_ranks - len(deaths), 1), 4, disk)
    while not world.is_over():
        world.step()
    for slide in range(4):
        np.testing.assert_array_equal(disk.results[slide], whole_tree(slide))
    assert all(disk.results[slide].tobytes() == result for slide, result in before.items())
    assert not disk.held


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 5))
def test_a_slide_that_nobody_can_go_on_with_ends_once_and_the_others_are_whole(seed: int, n_ranks: int) -> None:
    world = World(seed, n_ranks, 4, refused=frozenset({1}))
    while not world.is_over():
        world.step()
    assert_all_done(world)
    assert world.ends[1].exit_code == ExitCode.BAD_INPUT
    assert {world.ends[slide].exit_code for slide in (0, 2, 3)} == {ExitCode.OK}
    assert 1 not in world.disk.results


def owner_of(begin, sent: list) -> Owner:
    return Owner([0], 3, Everything(), begin, lambda *_: None, lambda *message: sent.append(message), lambda: 0.0)


def test_a_slide_whose_output_cannot_be_had_ends_and_its_opener_is_told_to_do_nothing():
    def begin(_slide, _description):
        raise InputError("is the journal of another run")

    sent: list = []
    owner = owner_of(begin, sent)
    owner.handle(2, Kind.OPENED, 0, DESCRIPTION.to_bytes())
    assert [(destination, kind) for destination, kind, _, _ in sent] == [(0, Kind.DONE), (2, Kind.BEGIN)]
    assert SlideEnd.from_bytes(sent[0][3]) == SlideEnd(ExitCode.BAD_INPUT, "is the journal of another run")
    assert untagged(sent[1][3]) == (0, b"")
    assert owner.is_done


def test_all_ranks_hear_of_a_bad_end_and_what_they_send_after_it_is_passed_over():
    world = World(0, 1, 1)
    sent: list = []
    owner = owner_of(world.begin, sent)
    owner.handle(1, Kind.OPENED, 0, DESCRIPTION.to_bytes())
    (_, _, _, begun) = sent.pop()
    first = records(untagged(begun)[1], TILE_DTYPE)
    owner.handle(2, Kind.REFUSED, 0, SlideEnd(ExitCode.BAD_INPUT, "another file").to_bytes())
    assert [(destination, kind) for destination, kind, _, _ in sent] == [
        (0, Kind.ENDED), (1, Kind.ENDED), (2, Kind.ENDED), (0, Kind.DONE)]  # fmt: skip
    owner.handle(1, Kind.REFUSED, 0, SlideEnd(ExitCode.BAD_INPUT, "me too").to_bytes())
    (batch,) = by_level(recorded(first))
    owner.handle(1, Kind.RECORDS, 0, encode_batch(batch))
    assert len(sent) == 4
    assert owner.n_stale == 1
    assert not world.disk.held


def test_what_a_rank_did_is_booked_on_it():
    world = World(0, 1, 1)
    sent: list = []
    owner = owner_of(world.begin, sent)
    beginning = owner.begin(0, DESCRIPTION)
    first = tiles_only(recorded(beginning.first))
    (batch,) = by_level(recorded(first))
    owner.handle(2, Kind.RECORDS, 0, encode_batch(batch))
    work = owner.collected(0).work[2]
    assert (work["tasks"], work["batches"]) == (len(first), 1)
    assert (work["read_s"], work["infer_s"]) == (0.1, 0.2)
    assert work["level_s"][LEVELS - 1] == pytest.approx(0.3)
    assert owner.collected(0).all_batches()["tiles"].tolist() == [len(first)]


def test_a_message_that_is_none_of_an_owners_is_a_bug():
    owner = owner_of(lambda *_: None, [])
    for kind in (Kind.BEGIN, Kind.DONE, Kind.ENDED):
        with pytest.raises(InternalError):
            owner.handle(0, kind, 0, b"")
    with pytest.raises(InternalError):
        owner.handle(0, Kind.OPENED, 1, DESCRIPTION.to_bytes())  # another owner's
