"""What a rank computes again for slides' owners: tiles that another rank has done first."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from pyramidai_mpi.base.errors import LostRankError, is_bug
from pyramidai_mpi.run.pool.messages import Kind, SlideEnd
from pyramidai_mpi.run.pool.witness import Witness, order_from_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyramidai_mpi.analyses.base import Analysis, CheckedAnalysis, SlideAnalysis
    from pyramidai_mpi.base.types import TileArray
    from pyramidai_mpi.run.pool.mailbox import Mailbox
    from pyramidai_mpi.run.pool.witness import Audit
    from pyramidai_mpi.run.pool.workload import SlideOpener


@dataclass
class _Copy:
    """An analysis that was loaded anew, and the slide that was opened anew for it."""

    analysis: Analysis
    number: int = -1
    slide: SlideAnalysis | None = None


class Recomputer:
    """Takes orders from any thread, and does them in one: the worker's, between its batches, and after it has ended.

    Parameters
    ----------
    audit
        What is audited.
    analysis
        What is done to tiles.
    opener, mailbox
        Opens slides; takes answers to the slides' owners.
    bugs_end_all
        As of `PoolWorkload`.
    """

    def __init__(
        self, audit: Audit, analysis: Analysis, opener: SlideOpener, mailbox: Mailbox, *, bugs_end_all: bool = False
    ) -> None:
        self._audit, self._analysis, self._opener, self._mailbox = audit, analysis, opener, mailbox
        self._bugs_end_all = bugs_end_all
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._copies: dict[int, _Copy] = {}

    @property
    def has_orders(self) -> bool:
        """Whether there is something to do."""
        return bool(self._waiting)

    def receive(self, slide: int, payload: bytes) -> None:
        """Take an order."""
        self._waiting.append((slide, payload))

    def serve(self, at_hand: Callable[[int], SlideAnalysis], *, refuse: bool = False) -> None:
        """Do one order, if there is one, and answer.

        Parameters
        ----------
        at_hand
            The analysis on a slide, with the networks that this rank works with.
        refuse
            Answer that it was not done, as the run is to stop.
        """
        if not self._waiting:
            return
        slide, payload = self._waiting.popleft()
        ticket, fresh, tasks = order_from_bytes(payload, self._analysis.task)
        nothing = Witness(tasks[:0], np.empty(0, self._analysis.record), *[np.empty(0, np.uint32)] * 2)
        answer = nothing
        if not (refuse or self._mailbox.has_ended(slide)):
            try:
                analysis = at_hand(slide) if not fresh else self._anew(slide, fresh)
                answer = _done(cast("CheckedAnalysis", analysis), tasks)
            except LostRankError:
                raise
            except Exception as error:  # ends this slide, not the others
                if self._bugs_end_all and is_bug(error):
                    raise
                end = SlideEnd.by(error, self._opener.name(slide))
                self._mailbox.send_to_owner(Kind.REFUSED, slide, end.to_bytes())
        self._mailbox.send_to_owner(Kind.AUDITED, slide, answer.to_bytes(ticket))

    def give_up(self) -> None:
        """Wait for no answer: ranks were lost, or this one fails."""
        self._mailbox.give_up()

    def close(self) -> None:
        """Close what was opened anew."""
        for copy in self._copies.values():
            if copy.slide is not None:
                copy.slide.close()
        self._copies.clear()

    def _anew(self, slide: int, number: int) -> SlideAnalysis:
        copy = self._copies.get(number)
        if copy is None:
            copy = self._copies[number] = _Copy(self._audit.fresh())
        if copy.slide is None or copy.number != slide:
            if copy.slide is not None:
                copy.slide.close()
            _, description = self._mailbox.description(slide)
            opened, rule = self._opener.follow(slide, description)
            copy.number, copy.slide = slide, copy.analysis.on(opened, rule)
        return copy.slide


def _done(analysis: CheckedAnalysis, tasks: TileArray) -> Witness:
    everything = np.ones(len(tasks), bool)
    return Witness.of(tasks, analysis.look(tasks, None, everything), everything)
