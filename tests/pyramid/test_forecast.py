"""What is left of a run is estimated from what was done: replayed as ranks work, against what came."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.pyramid.dealing import deal_by_root, evenly_spread
from pyramidai_mpi.pyramid.forecast import LEVEL_TALLY_DTYPE, SLIDES_TALLY_DTYPE, forecast
from tests.trees import played, rule_of

SECONDS = (0.004, 0.002, 0.001)
"""What a tile of each level takes."""
BATCH = 16


def slide_with(*discs, size=(200, 260), n_levels=3):
    """A rule over an oval of tissue, and whether a tile is zoomed into: near one of the (x, y, radius) discs."""
    rows, cols = size
    y, x = np.mgrid[:rows, :cols]
    mask = ((x / cols - 0.5) ** 2 + (y / rows - 0.5) ** 2) < 0.23

    def decision_of(level, col, row):
        side = 2 * 2**level
        centre = np.array([col + 0.5, row + 0.5]) * side
        near = any(np.hypot(*(centre - disc[:2])) < disc[2] + side / 2 for disc in discs)
        return Decision.ZOOM if near else Decision.STOP

    return rule_of(mask, n_levels=n_levels), decision_of


def fresh(rule, first, exists):
    """Tallies of a run that begins with these tiles."""
    levels = np.zeros(rule.grid.n_levels, LEVEL_TALLY_DTYPE)
    levels["exists"] = exists
    levels["begun"] = np.bincount(first["level"], minlength=len(levels))
    return levels


def replay(rule, decision_of, *, ranks=1, in_order=evenly_spread, mode=Mode.PYRAMID):
    """Yield the seconds that all ranks spent and the tallies, after every batch; deepest and newest tiles first.

    Steals are left out: a rank that is through stands still.
    """
    first = rule.first_tiles(mode)
    levels = fresh(rule, first, rule.count_under(first))
    shares = [in_order(deal_by_root(first, rule.grid, rank, ranks), rule.grid) for rank in range(ranks)]
    queues = [{int(level): list(share[share["level"] == level]) for level in range(3)} for share in shares]
    seconds = 0.0
    while any(any(queue.values()) for queue in queues):
        for queue in queues:
            held = sum(map(len, queue.values()))
            if not held:
                continue
            limit = min(BATCH, -(-held // 4))
            full = [level for level in range(3) if len(queue[level]) >= limit]
            level = full[0] if full else max(queue, key=lambda each: len(queue[each]))
            tiles = np.array(queue[level][-limit:])
            del queue[level][-limit:]
            closer = tiles[:0]
            if level and mode is not Mode.REFERENCE:
                zoomed = [mode is Mode.EXHAUSTIVE or decision_of(*map(int, tile)) == Decision.ZOOM for tile in tiles]
                closer = rule.children(tiles[np.array(zoomed)])
                queue[level - 1] += list(closer)
            levels[level]["done"] += len(tiles)
            levels[level]["followed"] += len(closer)
            levels[level]["busy_us"] += round(len(tiles) * SECONDS[level] * 1e6)
            seconds += len(tiles) * SECONDS[level]
            yield seconds, levels.copy()


NO_SLIDES = np.zeros((), SLIDES_TALLY_DTYPE)


def at_a_quarter(steps, *, all_follow=False):
    """Share of the time and of the tiles that is foretold at a quarter of the time, over what came."""
    whole, last = steps[-1]
    seconds, levels = next(step for step in steps if step[0] >= whole / 4)
    told = forecast(levels, NO_SLIDES, all_follow=all_follow)
    return seconds / told.share / whole, told.total / int(last["done"].sum()), told


SLIDES = {
    "one lesion at an end": slide_with((60, 40, 35)),
    "one lesion at the other end": slide_with((210, 170, 35)),
    "none": slide_with(),
    "everywhere": slide_with((130, 100, 300)),
    "small ones": slide_with(*((x, y, 5 + (x + y) % 9) for x in (90, 190, 280, 400) for y in (110, 210, 280)),
                             size=(400, 520)),
    "half": slide_with((130, 0, 100)),
}  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
@pytest.mark.parametrize("name", SLIDES)
def test_a_quarter_of_the_time_foretells_all_of_it(name, ranks):
    time, tiles, told = at_a_quarter(list(replay(*SLIDES[name], ranks=ranks)))
    within = 0.5 if name == "small ones" else 0.3  # of lesions of few roots, a quarter of the slide is a small sample
    assert time == pytest.approx(1, abs=within)
    assert tiles == pytest.approx(1, abs=within)
    assert not told.is_exact


def test_in_the_order_of_rows_it_would_not():
    rule, decision_of = SLIDES["one lesion at an end"]
    _, tiles, _ = at_a_quarter(list(replay(rule, decision_of, in_order=lambda tiles, _grid: tiles)))
    assert tiles < 0.7


@pytest.mark.parametrize("mode", [Mode.REFERENCE, Mode.EXHAUSTIVE])
def test_where_all_tiles_are_done_their_number_is_known_from_the_start(mode):
    rule, decision_of = SLIDES["half"]
    truth = len(played(rule, decision_of, mode))  # counted on the mask
    steps = list(replay(rule, decision_of, mode=mode))
    assert {forecast(levels, NO_SLIDES, all_follow=True).total for _, levels in steps} == {truth}
    assert all(forecast(levels, NO_SLIDES, all_follow=True).is_exact for _, levels in steps)
    assert at_a_quarter(steps, all_follow=True)[0] == pytest.approx(1, abs=0.3)


@pytest.mark.parametrize("mode", Mode)
def test_at_the_end_all_is_done_and_nothing_is_left(mode):
    rule, decision_of = SLIDES["small ones"]
    *_, (_, levels) = replay(rule, decision_of, mode=mode)
    told = forecast(levels, NO_SLIDES, all_follow=mode is not Mode.PYRAMID)
    assert (told.done, told.total) == (len(played(rule, decision_of, mode)),) * 2
    assert (told.is_exact, told.share, told.left_over_spent) == (True, 1.0, 0.0)


def test_before_the_first_batch_the_number_is_guessed_and_the_time_unknown():
    rule, _ = SLIDES["half"]
    first = rule.roots()
    exists = rule.count_under(first)
    told = forecast(fresh(rule, first, exists), NO_SLIDES, all_follow=False)
    assert len(first) < told.total < exists.sum()
    assert (told.done, told.share, told.left_over_spent) == (0, None, None)


def test_never_more_tiles_are_expected_than_there_are():
    rule, _ = SLIDES["everywhere"]
    exists = rule.count_under(rule.roots())
    for _, levels in replay(*SLIDES["everywhere"]):
        assert forecast(levels, NO_SLIDES, all_follow=False).total <= exists.sum()


@pytest.mark.parametrize("mode", [Mode.PYRAMID, Mode.EXHAUSTIVE])
def test_a_run_that_goes_on_counts_what_was_done_before(mode):
    """The same moment, as seen by the run itself and by one that begins with what waits."""
    rule, decision_of = SLIDES["half"]
    steps = list(replay(rule, decision_of, mode=mode))
    _, levels = steps[len(steps) // 3]
    resumed = np.zeros(3, LEVEL_TALLY_DTYPE)
    resumed["exists"], resumed["kept"] = levels["exists"], levels["done"]
    arrived = np.append(levels["followed"][1:], 0)
    resumed["begun"] = levels["begun"] + arrived - levels["done"]
    all_follow = mode is not Mode.PYRAMID
    before, after = (forecast(each, NO_SLIDES, all_follow=all_follow) for each in (levels, resumed))
    assert (after.done, after.total, after.is_exact) == (before.done, before.total, before.is_exact)
    assert after.left_over_spent is None
    # one more batch, of level 0, tells what a tile takes; all of what was kept counts as done
    resumed["done"][0], resumed["busy_us"][0] = 16, 16000
    after = forecast(resumed, NO_SLIDES, all_follow=all_follow)
    assert after.share == pytest.approx((before.done + 16) / after.total, rel=1e-3)
    assert after.left_over_spent == pytest.approx((after.total - after.done) / 16, rel=1e-3)


def test_slides_that_wait_are_taken_for_as_large_as_the_others():
    levels = np.zeros(2, LEVEL_TALLY_DTYPE)
    for name, values in {"exists": (40, 10), "begun": (0, 10), "done": (40, 10), "followed": (0, 40),
                         "busy_us": (80e6, 10e6)}.items():  # fmt: skip
        levels[name] = values
    slides = np.array((4, 2, 6e6), SLIDES_TALLY_DTYPE)
    told = forecast(levels, slides, all_follow=True)
    assert (told.done, told.total, told.is_exact) == (50, 100, False)
    assert (told.share, told.left_over_spent) == (0.5, 1.0)
    slides["opened"] = 4
    assert forecast(levels, slides, all_follow=True).is_exact


def test_before_the_first_slide_is_open_nothing_tells():
    told = forecast(np.zeros(3, LEVEL_TALLY_DTYPE), np.array((4, 0, 0), SLIDES_TALLY_DTYPE), all_follow=True)
    assert (told.done, told.total, told.share) == (0, None, None)


def test_a_slide_that_fails_leaves_nothing_to_wait_for():
    rule, decision_of = SLIDES["half"]
    steps = list(replay(rule, decision_of, mode=Mode.EXHAUSTIVE))
    _, levels = steps[len(steps) // 2]
    open_tiles = levels["begun"] + np.append(levels["followed"][1:], 0) - levels["done"]
    levels["dropped"] = open_tiles
    told = forecast(levels, NO_SLIDES, all_follow=True)
    assert told.done == told.total == levels["done"].sum()
    assert told.share == 1.0
