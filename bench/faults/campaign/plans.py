"""A trial as it is drawn from its number: the work, its surroundings, and one fault after the other."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from bench.faults.campaign import faults, works
from bench.faults.campaign.faults import LAUNCHER, LONGEST_DELAY_S, Fault

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_FAULTS = 5
_WEIGHTS_OF_PHASES = {
    "opening": 1.5,
    "resuming": 3.0,
    "running": 2.0,
    "finalising": 3.0,
    "exporting": 0.7,
    "removing": 1.3,
    "any": 1.0,
}
_SHARE_WITH_HABITS = 0.3
_SHARE_OVER_HOSTS = 0.25
_HOST_WORKS = ("slide", "cohort", "patches")


@dataclass(frozen=True)
class Plan:
    """What a trial does.

    Attributes
    ----------
    work, slides
        See `works.KINDS`.
    ranks
        Over hosts one on each.
    over_hosts
        Whether it runs over three hosts.
    habit
        Of its surroundings, see `faults.HABITS`; empty for none.
    faults
        One in each start, the first of which does not resume; then it is let through.
    """

    work: str
    slides: int
    ranks: int
    over_hosts: bool
    habit: str
    faults: tuple[Fault, ...]

    def to_json(self) -> str:
        """In one line."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """From that line."""
        said = json.loads(text)
        made = tuple(Fault(**{**one, "victims": tuple(one["victims"])}) for one in said.pop("faults"))
        return cls(**said, faults=made)


@dataclass(frozen=True)
class Choice:
    """What may be drawn: names of works, whether hosts can be made."""

    works: Sequence[str]
    hosts: bool


def drawn(seed: int, number: int, choice: Choice) -> Plan:
    """The plan of a trial: the same for the same numbers and choice."""
    rng = np.random.default_rng([seed, number])
    over_hosts = bool(rng.random() < _SHARE_OVER_HOSTS) and choice.hosts
    names = [name for name in choice.works if not over_hosts or name in _HOST_WORKS]
    if not names:
        over_hosts, names = False, list(choice.works)
    kind = works.KINDS[_weighted(rng, {name: works.KINDS[name].weight for name in names})]
    ranks = 3 if over_hosts else int(rng.choice([2, 2, 2, 3]))
    slides = kind.slides if kind.trains else int(rng.integers(min(2, kind.slides), kind.slides + 1))
    habit = ""
    if rng.random() < _SHARE_WITH_HABITS:
        habit = str(rng.choice([*faults.HABITS, faults.SLOW_LINKS] if over_hosts else [*faults.HABITS]))
    n = int(rng.integers(2, MOST_FAULTS + 1))
    weights = {one.name: one.weight for one in faults.KINDS.values() if one.is_of_hosts <= over_hosts}
    # those that the work outlives come last: nothing is left to be disturbed after them
    drawn_kinds = sorted((faults.KINDS[_weighted(rng, weights)] for _ in range(n)), key=lambda one: one.is_outlived)
    made = tuple(_fault(rng, kind, ranks, one, is_first=index == 0) for index, one in enumerate(drawn_kinds))
    return Plan(kind.name, slides, ranks, over_hosts, habit, made)


def _fault(rng: np.random.Generator, kind: works.Kind, ranks: int, what: faults.FaultKind, *, is_first: bool) -> Fault:
    name = what.name
    phases = dict(_WEIGHTS_OF_PHASES)
    if is_first:
        del phases["resuming"]
    if not kind.exports:
        del phases["exporting"]
    if kind.trains:
        del phases["removing"]
    if what.is_of_disk:
        del phases["any"]  # the disk fails from a phase on
    if name == "folder renamed away":
        del phases["any"]  # a folder that is not there yet is made
    phase = _weighted(rng, phases)
    delay = float(np.round(rng.uniform(0, LONGEST_DELAY_S[phase]), 3))
    nth = int(rng.integers(1, 3)) if phase in {"opening", "resuming", "finalising"} and kind.slides > 1 else 1
    victims: tuple[int, ...] = (int(rng.integers(ranks)),)
    if name == "kill several ranks":
        victims = tuple(sorted(rng.choice(ranks, int(rng.integers(2, ranks + 1)), replace=False).tolist()))
    if what.is_of_disk and (kind.trains or (kind.slides == 1 and phase in faults.ENDS)):
        victims = (0,)  # nobody else writes then
    if name.endswith("mpirun"):
        victims = (LAUNCHER,)
    seconds = float(np.round(rng.uniform(0.2, 1.5), 2))
    call = int(rng.integers(0, 12)) if what.is_of_disk else int(rng.integers(0, 120))
    return Fault(name, phase, nth, delay, victims, seconds, call, int(rng.integers(2, 6)))


def _weighted(rng: np.random.Generator, weights: dict[str, float]) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]
