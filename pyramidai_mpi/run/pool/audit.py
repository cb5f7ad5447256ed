"""Auditing the tiles of the slides that a rank owns: who is to do them again, and who was wrong where two differ.

Messages in, messages out, as `owner`: no thread, file or MPI. A tile that was found alike twice is settled. Where two
ranks differ, a third one decides; where there is none, networks that are loaded anew on a slide that is opened anew.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.errors import InternalError, StorageError
from pyramidai_mpi.base.types import TILE_DTYPE, tile_keys
from pyramidai_mpi.run.pool.messages import Kind
from pyramidai_mpi.run.pool.witness import EARLIER, Witness, order_bytes, record_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import Analysis
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.pyramid.audited import AuditChoice
    from pyramidai_mpi.run.pool.record_table import RecordTable
    from pyramidai_mpi.run.pool.witness import Audit

_MOST_VOTES = 4


@dataclass(frozen=True)
class Vote:
    """What one rank has found of one tile.

    Attributes
    ----------
    rank
        `EARLIER` for what a journal says.
    record
        (1,).
    pixels, features
        CRC-32; None where nobody knows.
    """

    rank: int
    record: npt.NDArray[np.void]
    pixels: int | None
    features: int | None

    def agrees(self, other: Vote) -> bool:
        """Whether both have found the same, bit by bit."""
        return self.record.tobytes() == other.record.tobytes() and self.differs_in(other) == ""

    @property
    def signature(self) -> bytes:
        """Equal where all of it is."""
        return self.record.tobytes() + f" {self.pixels} {self.features}".encode()

    def differs_in(self, other: Vote) -> str:
        """What differs beside the records: ``pixels`` or ``features``; empty for nothing that is known."""
        for name in ("pixels", "features"):
            own, others = getattr(self, name), getattr(other, name)
            if own is not None and others is not None and own != others:
                return name
        return ""


@dataclass(frozen=True)
class Verdict:
    """What votes on a tile come to.

    Attributes
    ----------
    right
        A vote that is taken for right; None where that cannot be told.
    suspects
        Ranks that have found something else, or all where nobody can tell; none where all agree.
    """

    right: Vote | None
    suspects: frozenset[int]


def verdict_on(votes: Collection[Vote]) -> Verdict | None:
    """Who is right, None as long as another vote is wanted.

    What two ranks have found alike is right; of a single rank what two of its votes say, as each is by other networks.
    """
    sides: list[list[Vote]] = []
    for vote in votes:
        side = next((side for side in sides if side[0].agrees(vote)), None)
        if side is None:
            sides.append([vote])
        else:
            side.append(vote)
    if len(votes) < 2 or (len(sides) > 1 and len(votes) < 3):
        return None
    ranks = {vote.rank for vote in votes}
    is_alone = len(ranks - {EARLIER}) == 1
    for side in sides:
        on_side = {vote.rank for vote in side}
        if len(side) > 1 and (len(on_side) > 1 or is_alone):
            others = {vote.rank for other in sides if other is not side for vote in other}
            return Verdict(side[0], frozenset(others))
    if len(ranks) == 2 and not is_alone and len(votes) < _MOST_VOTES:
        return None
    return Verdict(None, frozenset(ranks))


@dataclass
class _Item:
    """A chosen tile: the task (1,), what was found of it, and the row of its record in the slide's table."""

    task: TileArray
    votes: list[Vote]
    row: int | None = None
    is_agreed: bool = False


@dataclass
class _Group:
    """Tiles of one level that wait to be done again together by one rank, their keys; `fresh` as in `order_bytes`."""

    auditor: int
    fresh: int
    keys: list[int] = field(default_factory=list)


@dataclass
class _Slide:
    """A slide that is being audited."""

    choice: AuditChoice
    table: RecordTable
    workers: set[int] = field(default_factory=set)
    items: dict[int, _Item] = field(default_factory=dict)
    groups: dict[int, list[_Group]] = field(default_factory=dict)
    is_complete: bool = False
    n_audited: int = 0


class AuditBook:
    """The audited tiles of one rank's slides.

    Parameters
    ----------
    audit
        What is audited, and by whom.
    analysis
        What is done to the tiles.
    send
        Called with (destination, kind, slide, payload).
    group_size
        Most tiles in one order: networks run in batches.
    name
        Of a slide, for messages.
    of_several
        Whether the run is of several slides.
    """

    def __init__(
        self,
        audit: Audit,
        analysis: Analysis,
        send: Callable[[int, Kind, int, bytes], None],
        group_size: int,
        name: Callable[[int], str] = "slide {}".format,
        *,
        of_several: bool = False,
    ) -> None:
        self._audit, self._analysis, self._send = audit, analysis, send
        self._group_size, self._name, self._of_several = group_size, name, of_several
        self._slides: dict[int, _Slide] = {}
        self._tickets: dict[int, list[int]] = {}
        self._next_ticket = 0
        self._load: Counter[int] = Counter()
        self.failure: StorageError | None = None
        """What was found wrong; nothing is settled any more then."""
        self.suspects: frozenset[int] = frozenset()
        """Ranks whose work is not to be relied on."""
        self.has_given_up = False
        """Whether tiles are left unaudited, as the run was asked to stop."""

    @property
    def waits(self) -> bool:
        """Whether answers are under way."""
        return bool(self._tickets)

    def begin(self, slide: int, quickhash: str, table: RecordTable) -> None:
        """Begin to audit a slide whose records come to this table."""
        self._slides[slide] = _Slide(self._audit.choice(quickhash), table)

    def takes_restored(self, attributes: Mapping[str, str | int | float]) -> bool:
        """Whether what earlier starts have done can be compared bit by bit: not where versions or processors are mixed.

        Parameters
        ----------
        attributes
            See `owner.Output`.
        """
        return self._audit.is_alike and "mixed" not in attributes

    def restored(self, slide: int, tasks: TileArray) -> None:
        """What earlier starts have done is audited like the rest.

        Parameters
        ----------
        tasks
            Of all tiles that are in the slide's table, and maybe more.
        """
        state = self._slides[slide]
        of_key = dict(zip(tile_keys(tasks).tolist(), range(len(tasks)), strict=True))
        for row in np.flatnonzero(state.choice.chosen(state.table.rows)).tolist():
            record = state.table.rows[row : row + 1].copy()
            key = int(tile_keys(record)[0])
            at = of_key[key]
            self._open(slide, key, _Item(tasks[at : at + 1], [Vote(EARLIER, record, None, None)], row))

    def witnessed(self, slide: int, source: int, payload: bytes) -> None:
        """A rank has done chosen tiles, whose records follow."""
        state = self._slides.get(slide)
        if state is None:
            return
        _, witness = Witness.from_bytes(payload, self._analysis)
        state.workers.add(source)
        for key, vote, task in _votes(source, witness):
            self._open(slide, key, _Item(task, [vote]))

    def recorded(self, slide: int, source: int, first: int) -> None:
        """Records of a batch have come, and are the last in the slide's table.

        Parameters
        ----------
        first
            Row of the first of them.

        Raises
        ------
        InternalError
            When whoever did a chosen tile has not said so.
        """
        state = self._slides[slide]
        records = state.table.rows[first:]
        chosen = np.flatnonzero(state.choice.chosen(records)).tolist()
        for row, key in zip(chosen, tile_keys(records[chosen]).tolist(), strict=True):
            item = state.items.get(key)
            if item is None:
                raise InternalError(f"rank {source} has sent a tile that is audited, and not said what it found")
            item.row = first + row
            self._settle(slide, item)

    def answered(self, slide: int, source: int, payload: bytes) -> None:
        """A rank has done tiles again, or none of them, as the run is to stop or the slide has ended."""
        ticket, witness = Witness.from_bytes(payload, self._analysis)
        keys = self._tickets.pop(ticket)
        state = self._slides.get(slide)
        if state is None or self.failure is not None:
            return
        if not len(witness.tasks):
            self.has_given_up = True
            return
        found = {key: vote for key, vote, _ in _votes(source, witness)}
        if sorted(found) != sorted(keys):
            raise InternalError(f"rank {source} was to do {len(keys)} tiles again, and has done others")
        for key in keys:
            item = state.items[key]
            item.votes.append(found[key])
            self._judge(slide, key, item)

    def completed(self, slide: int) -> None:
        """All of a slide is done: no order waits any more for others to go with. May be said again."""
        state = self._slides[slide]
        state.is_complete = True
        for groups in state.groups.values():
            while groups:
                self._order(slide, groups.pop(0))

    def is_settled(self, slide: int) -> bool:
        """Whether all chosen tiles of a slide of which all is done were found alike."""
        return self.failure is None and not self.has_given_up and not self._slides[slide].items

    def end(self, slide: int) -> int:
        """A slide is finished, or has ended badly: forget it; how many of its tiles were audited."""
        state = self._slides.pop(slide, None)
        return 0 if state is None else state.n_audited

    def give_up(self) -> None:
        """The run is to stop: leave what is not audited."""
        self.has_given_up = True

    def _open(self, slide: int, key: int, item: _Item) -> None:
        self._slides[slide].items[key] = item
        self._ask(slide, key, item)

    def _ask(self, slide: int, key: int, item: _Item) -> None:
        """Have a tile done again, with others where it is the first time."""
        state, is_first = self._slides[slide], len(item.votes) == 1
        level = int(item.task["level"][0])
        groups = state.groups.setdefault(level, [])
        may = self._may_audit(item, state)
        group = next((one for one in groups if (one.auditor, one.fresh) in may), None) if is_first else None
        if group is None:
            group = _Group(*min(may, key=lambda one: self._load[one[0]]))
            groups.append(group)
        group.keys.append(key)
        self._load[group.auditor] += 1
        if len(group.keys) >= self._group_size or not is_first or state.is_complete:
            groups.remove(group)
            self._order(slide, group)

    def _may_audit(self, item: _Item, state: _Slide) -> list[tuple[int, int]]:
        """Who may look next: rank, and which copy of the networks loaded anew, 0 for those at hand."""
        asked = [vote.rank for vote in item.votes]
        others = [peer for peer in self._audit.peers(asked[0]) if peer not in asked]
        if others:
            others = [peer for peer in others if self._audit.is_elsewhere(peer, asked[0])] or others
            known = [peer for peer in others if peer in state.workers]  # they have the slide open
            return [(peer, 0) for peer in known or others]
        ranks = [rank for rank in dict.fromkeys(asked) if rank != EARLIER]
        rank = min(ranks, key=asked.count)
        return [(rank, asked.count(rank))]

    def _order(self, slide: int, group: _Group) -> None:
        if self.failure is not None or self.has_given_up:
            return  # nobody may answer any more
        items = self._slides[slide].items
        self._next_ticket += 1
        self._tickets[self._next_ticket] = group.keys
        tasks = np.concatenate([items[key].task for key in group.keys])
        self._send(group.auditor, Kind.AUDIT, slide, order_bytes(self._next_ticket, group.fresh, tasks))

    def _judge(self, slide: int, key: int, item: _Item) -> None:
        verdict = verdict_on(item.votes)
        if verdict is None:
            self._ask(slide, key, item)
        elif verdict.suspects:
            self._fail(slide, item, verdict)
        else:
            item.is_agreed = True
            self._settle(slide, item)

    def _settle(self, slide: int, item: _Item) -> None:
        """See that the slide's owner has what was found, and forget the tile once it was found again."""
        first, state = item.votes[0], self._slides[slide]
        if item.row is None:
            return  # its record may come later than what was found again
        stored = state.table.rows[item.row : item.row + 1].copy()
        if stored.tobytes() == first.record.tobytes():
            if item.is_agreed:
                del state.items[int(tile_keys(item.task)[0])]
                state.n_audited += 1
            return
        if self.failure is not None:
            return
        self.failure = StorageError(
            f"{self._where(slide, item)}: {self._audit.name_of(first.rank)} found {record_in_words(first.record)}, and "
            f"with the slide's owner it is {record_in_words(stored)}: it was changed on the way or in memory; no "
            "result was written, and the same command with --resume goes on from the journal"
        )

    def _where(self, slide: int, item: _Item) -> str:
        level, col, row = (int(item.task[name][0]) for name in TILE_DTYPE.names or ())
        return f"{self._name(slide)}: audit: level {level}, column {col}, row {row}"

    def _fail(self, slide: int, item: _Item, verdict: Verdict) -> None:
        if self.failure is not None:
            return
        self.suspects = verdict.suspects
        found: dict[bytes, list[str]] = {}
        said = []
        for n, vote in enumerate(item.votes):
            again = ", looking again," if vote.rank in [one.rank for one in item.votes[:n]] else ""
            names = found.setdefault(vote.signature, [record_in_words(vote.record)])
            names.append(self._audit.name_of(vote.rank) + again)
        for words, *names in found.values():
            said.append(f"{' and '.join(names)} found {words}")
        which = " and ".join(self._audit.name_of(rank) for rank in sorted(verdict.suspects))
        self.failure = StorageError(
            f"{self._where(slide, item)}: {'; '.join(said)}: {self._blame(item, verdict, which)}; no result was "
            f"written; {self._advice(verdict)}"
        )

    def _blame(self, item: _Item, verdict: Verdict, which: str) -> str:
        if verdict.right is None:
            return f"who is wrong cannot be told of {which}"
        wrong = [vote for vote in item.votes if not vote.agrees(verdict.right)]
        ways = {vote.differs_in(verdict.right) for vote in wrong}
        if EARLIER in verdict.suspects:
            return f"{which} was wrong, or ran on another kind of processor"
        if "pixels" in ways:
            return f"{which} has read other pixels"
        what = "other features" if ways == {"features"} and self._same_records(wrong, verdict.right) else "otherwise"
        return f"{which} has computed {what} of the same pixels"

    @staticmethod
    def _same_records(wrong: list[Vote], right: Vote) -> bool:
        return all(vote.record.tobytes() == right.record.tobytes() for vote in wrong)

    def _advice(self, verdict: Verdict) -> str:
        if EARLIER in verdict.suspects:
            return "start afresh with --overwrite"
        ranks = sorted(verdict.suspects)
        hosts = ", ".join(dict.fromkeys(self._audit.hosts[rank] for rank in ranks))
        own = f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"
        others = (
            "; results of other slides that this run has finished may hold tiles of it (/execution/ranks says how many)"
            if self._of_several
            else ""
        )
        return (
            f"what {own} did is set aside, and the same command with --resume does it again: look at the memory and "
            f"processor of host {hosts}, or leave it out{others}"
        )


def _votes(source: int, witness: Witness) -> Iterable[tuple[int, Vote, TileArray]]:
    keys = tile_keys(witness.tasks).tolist()
    for n, key in enumerate(keys):
        vote = Vote(source, witness.records[n : n + 1], int(witness.pixels[n]), int(witness.features[n]))
        yield key, vote, witness.tasks[n : n + 1]
