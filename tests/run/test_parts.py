"""Which parts belong together: the rule of a resumed run, on tables of facts without files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from pyramidai_mpi import __version__
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.part import Part
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.parts import (
    FoundPart,
    check_all_there,
    facts_in,
    joined_facts,
    missing_numbers,
    one_of_each,
    part_record,
)
from pyramidai_mpi.store.results.result import PartRecord

FACTS = (
    Fact("quickhash", "slide", "ab" * 32, Kind.SLIDE, True),
    Fact("thresholds", "thresholds", [0.5, 0.25], Kind.SETTING, True),
    Fact("software_version", "program version", __version__, Kind.VERSION, True),
    Fact("numpy", "numpy", "2.0", Kind.VERSION, True),
    Fact("cpu", "processor", "one", Kind.PROCESSOR),
)


def part_of(number: int, of: int = 3, digest: str = "", mixed: str = "", **values: object) -> FoundPart:
    facts = tuple(replace(fact, value=values.get(fact.name, fact.value)) for fact in FACTS)
    return FoundPart(Path(f"out.part-{number}.h5"), Part(number, of), facts, digest or f"{number}", "slide.tif", mixed)


def test_facts_come_back_as_they_were_but_for_the_part_itself() -> None:
    part = Fact("part", "--part", "2/3", Kind.SETTING)
    record = part_record(Part(2, 3), (*FACTS, part))
    assert record is not None
    assert facts_in(record) == FACTS
    assert part_record(None, FACTS) is None
    for text in ("", "[", "[[1]]", '[["a", "b", 1, "unknown", false]]', "3"):
        with pytest.raises(InputError):
            facts_in(PartRecord(Part(1, 2), text))


def test_the_same_part_twice_counts_once_and_with_other_content_is_refused() -> None:
    found = [part_of(2), part_of(1), part_of(2)]
    assert [one.part.number for one in one_of_each(found)] == [1, 2]
    with pytest.raises(InputError, match=r"part 2 of 3 of slide\.tif like .* with other content"):
        one_of_each([*found, part_of(2, digest="other")])
    with pytest.raises(InputError, match=r"is part 1 of 4, and .* part 2 of 3"):
        one_of_each([*found, part_of(1, of=4)])


def test_missing_parts_are_named() -> None:
    found = [part_of(2), part_of(4, of=3 + 2)]
    assert missing_numbers(found[:1]) == [1, 3]
    with pytest.raises(InputError, match=r"parts 1 and 3 of 3 of slide\.tif are missing: .* --part 1/3 and so on"):
        check_all_there(found[:1])
    check_all_there([part_of(n) for n in (3, 1, 2)])


@pytest.mark.parametrize(
    ("name", "value", "words"), [("quickhash", "cd" * 32, "slide"), ("thresholds", [0.5, 0.3], "thresholds")]
)
def test_another_slide_or_setting_is_refused_whatever_is_accepted(name: str, value: object, words: str) -> None:
    for accept in (False, True):
        with pytest.raises(InputError, match=f"other {words}"):
            joined_facts([part_of(1), part_of(2, **{name: value})], accept_mixed=accept)
    unknown = replace(part_of(2), facts=FACTS[1:])
    with pytest.raises(InputError, match="other quickhash"):
        joined_facts([part_of(1), unknown], accept_mixed=True)


@pytest.mark.parametrize(("name", "words"), [("numpy", "numpy 2.0, 2.1"), ("software_version", "program version")])
def test_mixed_versions_are_refused_unless_accepted_and_then_said(
    name: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = [part_of(1), part_of(2, **{name: "2.1"})]
    with pytest.raises(InputError, match=rf"mixed {words}.* --accept-mixed"):
        joined_facts(found, accept_mixed=False)
    facts, mixed = joined_facts(found, accept_mixed=True)
    assert facts == FACTS
    assert mixed.startswith(words)
    assert words in caplog.text


def test_parts_that_another_version_of_the_program_made_count_as_mixed_with_this_one() -> None:
    found = [part_of(number, software_version="0.0.1") for number in (1, 2)]
    with pytest.raises(InputError, match="mixed program version"):
        joined_facts(found, accept_mixed=False)
    assert joined_facts(found, accept_mixed=True)[1] == f"program version 0.0.1, {__version__}"


def test_other_processors_are_taken_and_said_and_so_is_what_a_part_mixed() -> None:
    assert joined_facts([part_of(1), part_of(2)], accept_mixed=False)[1] == ""
    found = [part_of(1), part_of(2, cpu="two", mixed="numpy 1.0, 2.0")]
    assert joined_facts(found, accept_mixed=False)[1] == "processor one, two; numpy 1.0, 2.0"
