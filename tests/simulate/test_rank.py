from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from pyramidai_mpi.sched import waiting
from pyramidai_mpi.simulate.rank import SimulatedRank


class PlainState:
    """What a rank's clock asks of its state."""

    def __init__(self, steals: bool, computing: bool, awaiting: bool) -> None:
        self.rank = 0
        self.rules = type("Rules", (), {"steals": steals})
        self.is_computing, self.awaits_reply = computing, awaiting


# Odd fractions, so that no pause ends in the instant in which the rule for pauses changes: there rounding would decide.
spans = st.integers(0, 20000).map(lambda n: (n + 0.3141) * 137e-6)


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    spans,
    spans,
    st.integers(0, 99).map(lambda n: n * 1.03e-6),
    spans,
    st.floats(0, 0.5),
)
def test_the_first_look_is_that_of_a_thread_that_pauses_and_looks_in_turn(
    steals, computing, awaiting, unwanted_s, asked_s, late_s, until_s, batch_s
):
    """Pauses and looks of `sched.loop._work` while nothing happens, beginning with a look that found something."""
    start = 10.0
    rank = SimulatedRank(PlainState(steals, computing, awaiting), late_s)
    rank.wanted_at, rank.asked_at = start - unwanted_s, start - asked_s
    rank.batch_s = batch_s
    rank.begin_pause(start)

    pause, look, looks = math.nan, start, [start]
    while look < start + until_s + 0.06:
        longest = waiting.longest_pause(
            steals=steals,
            computing=computing,
            asked_s=look - rank.asked_at if awaiting else None,
            unwanted_s=look - rank.wanted_at,
            batch_s=batch_s,
        )
        flat = computing and not awaiting
        pause = longest if flat else waiting.SHORTEST_S if look == start else min(2 * pause, longest)
        look += pause + late_s
        looks.append(look)
    found = rank.first_look(start + until_s)
    # sums of many pauses: rounding may tip a look to the other side of an instant that lies within 1 ns of it
    right = {next(look for look in looks[1:] if look >= start + until_s + slack) for slack in (-1e-9, 1e-9)}
    assert min(abs(found - look) for look in right) < 1e-9
    assert rank.first_look(start) == found, "time does not go back"
