"""What a part of a file says of the run that it is a part of, and whether parts are of one run.

A part is a file of its own: what the whole file would hold, of some of the slide's roots. All that decides the result
stands in it as the table of facts, so that parts are joined by the rule by which a run is resumed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.part import parts_in_words
from pyramidai_mpi.run.deciding import differences, values_of
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.store.results.result import PartRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.part import Part
    from pyramidai_mpi.run.facts import Facts

log = logging.getLogger(__name__)

_MAY_DIFFER = frozenset({Kind.VERSION, Kind.PROCESSOR})


def part_record(part: Part | None, facts: Facts) -> PartRecord | None:
    """What a part says of itself; None where the file is to be a whole one."""
    if part is None:
        return None
    rows = [[fact.name, fact.words, fact.value, fact.kind.value, fact.has_own_place] for fact in facts]
    return PartRecord(part, json.dumps(rows))


def facts_in(record: PartRecord) -> Facts:
    """The table of facts of a part, but for the part itself.

    Raises
    ------
    InputError
        When it is none.
    """
    try:
        rows = json.loads(record.facts)
        facts = tuple(Fact(str(n), str(words), value, Kind(kind), bool(own)) for n, words, value, kind, own in rows)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"what decides it cannot be read: {error!s:.100}") from error
    return tuple(fact for fact in facts if fact.name != "part")


@dataclass(frozen=True)
class FoundPart:
    """A part that was looked at.

    Attributes
    ----------
    path
        Its file.
    part
        Which one it is.
    facts
        What decides it.
    digest
        Of its content.
    slide
        Name of the slide.
    mixed
        What is mixed in it, as its own run said; empty for nothing.
    """

    path: Path
    part: Part
    facts: Facts
    digest: str
    slide: str
    mixed: str


def one_of_each(found: Sequence[FoundPart]) -> list[FoundPart]:
    """Parts by number, each once.

    Raises
    ------
    InputError
        When one is there twice with different content, or they are of different numbers of parts.
    """
    first = found[0]
    chosen: dict[int, FoundPart] = {}
    for one in found:
        if one.part.of != first.part.of:
            raise InputError(
                f"{one.path}: is {one.part.words}, and {first.path} {first.part.words}; join those of one number of "
                "parts"
            )
        other = chosen.setdefault(one.part.number, one)
        if other.digest != one.digest:
            raise InputError(
                f"{one.path}: is {one.part.words} of {one.slide} like {other.path}, with other content; leave out the "
                "wrong one"
            )
    return [chosen[number] for number in sorted(chosen)]


def missing_numbers(found: Sequence[FoundPart]) -> list[int]:
    """Numbers of the parts that are not there."""
    return sorted(set(range(1, found[0].part.of + 1)) - {one.part.number for one in found})


def check_all_there(found: Sequence[FoundPart]) -> None:
    """See that no part is missing.

    Raises
    ------
    InputError
        Names those that are.
    """
    if missing := missing_numbers(found):
        raise InputError(missing_line(missing, found[0].part.of, found[0].slide))


def missing_line(numbers: Sequence[int], of: int, slide: str) -> str:
    """What to say of parts of a slide that are not there."""
    named = f"{parts_in_words(numbers, of)} of {slide}"
    first = f"--part {numbers[0]}/{of}"
    if len(numbers) == 1:
        return f"{named} is missing: do it with {first}, then join again"
    return f"{named} are missing: do them with {first} and so on, then join again"


def joined_facts(found: Sequence[FoundPart], *, accept_mixed: bool) -> tuple[Facts, str]:
    """What decides the whole file, and in words what is mixed in it, empty for nothing.

    The rule is that of a run which is resumed: slide, model and settings may not differ; versions of what computes, and
    of the program that joins, only where that is accepted; processors may.

    Raises
    ------
    InputError
        Names a part that is of another run than the first one, and in what.
    """
    first = found[0]
    for one in found[1:]:
        fixed = [fact for fact in first.facts if fact.kind not in _MAY_DIFFER]
        found_there = values_of(fact for fact in one.facts if fact.kind not in _MAY_DIFFER)
        unknown = found_there.keys() ^ values_of(fixed).keys()
        differing = differences(found_there, fixed)
        if differing or unknown:
            what = "; ".join(each.beside("there") for each in differing) or ", ".join(sorted(unknown))
            raise InputError(
                f"{one.path}: is a part of another run than {first.path}: other {what}; join parts of one run"
            )
    versions = [values_of(one.facts, Kind.VERSION) for one in found]
    mixed = _mixed([*versions, {"software_version": __version__}], first.facts)
    if mixed and not accept_mixed:
        raise InputError(
            f"{first.path}: its parts are of mixed {'; '.join(mixed)}; do them again with one version, or accept the "
            "mixture with --accept-mixed"
        )
    mixed += _mixed([values_of(one.facts, Kind.PROCESSOR) for one in found], first.facts)
    mixed += [one.mixed for one in found if one.mixed]
    said = "; ".join(dict.fromkeys(mixed))
    if said:
        log.warning("%s: the last bits of probabilities may differ, as its parts are of mixed %s", first.slide, said)
    return first.facts, said


def _mixed(starts: Sequence[Mapping[str, Any]], facts: Facts) -> list[str]:
    words = {fact.name: fact.words for fact in facts}
    found = []
    for name in dict.fromkeys(name for start in starts for name in start):
        values = dict.fromkeys(str(start[name]) for start in starts if name in start)
        if len(values) > 1:
            found.append(f"{words.get(name, name)} {', '.join(values)}")
    return found
