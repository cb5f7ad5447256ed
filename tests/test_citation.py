"""CITATION.cff is of the Citation File Format 1.2.0, and true."""

from __future__ import annotations

import re

import pytest
import yaml

from pyramidai_mpi import __version__
from pyramidai_mpi.testing.launch import REPOSITORY

PATH = REPOSITORY / "CITATION.cff"
CITATION = yaml.safe_load(PATH.read_text(encoding="utf-8"))
TYPES = {"article", "conference-paper"}
KEYS = {
    *("type", "title", "authors", "conference", "journal", "volume", "issue", "start", "end", "year", "month"),
    *("doi", "url", "identifiers"),
}
"""Of the format's, those that the file uses; a mistyped one would be lost on whoever reads it."""


def is_person_or_entity(author: dict[str, str]) -> bool:
    return set(author) == {"name"} or {"family-names", "given-names"} == set(author)


def test_it_has_what_the_format_asks_for() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["message"]
    assert CITATION["title"] == "pyramidai_mpi"
    assert CITATION["type"] == "software"
    assert CITATION["authors"]
    assert all(map(is_person_or_entity, CITATION["authors"]))


def test_version_and_licence_are_the_program_s() -> None:
    assert CITATION["version"] == __version__
    licence = re.search(r"^license = (\S+)", (REPOSITORY / "setup.cfg").read_text(), re.MULTILINE)
    assert licence is not None
    assert CITATION["license"] == licence[1]


@pytest.mark.parametrize("reference", CITATION["references"], ids=lambda one: one["authors"][0]["family-names"])
def test_a_reference_can_be_found(reference) -> None:
    assert set(reference) <= KEYS
    assert reference["type"] in TYPES
    assert reference["title"]
    assert reference["authors"]
    assert all(map(is_person_or_entity, reference["authors"]))
    assert 2019 < reference["year"] < 2027
    assert re.fullmatch(r"10\.\d{4,5}/\S+", reference.get("doi", "10.1234/x"))
    assert "doi" in reference or "url" in reference or {"journal", "volume", "start", "end"} <= set(reference)
    for one in reference.get("identifiers", []):
        assert one["type"] == "other"
        assert re.fullmatch(r"arXiv:\d{4}\.\d{5}", one["value"])


def test_the_papers_are_those_that_the_program_builds_on() -> None:
    first = [one["authors"][0]["family-names"] for one in CITATION["references"]]
    assert first == ["Reinbigler", "Li", "Graziani", "Remedios", "Campanella"]
