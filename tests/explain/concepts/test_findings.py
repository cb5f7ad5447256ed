"""Findings go from rank to rank whole, and tables leave out what means nothing."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from pyramidai_mpi.explain.concepts.examination import Chance, examined
from pyramidai_mpi.explain.concepts.findings import Row, document_text, packed, record_dtype, table_lines, unpacked
from pyramidai_mpi.explain.concepts.sensitivity import Control, Finding, Interval, Verdict

NAN = float("nan")


def finding(r2=0.5, br=1.0, control_r2=(-0.1, 0.0, -0.2)):
    return Finding(
        30,
        5,
        Interval(r2, r2 - 0.1, r2 + 0.1),
        12.0,
        Interval(0.9, 0.8, 1.0),
        Interval(br, br - 0.2, br + 0.2),
        0.3,
        0.4,
        0.01,
        Control(np.array(control_r2), np.array([0.1, NAN, 0.9]), np.array([0.2, -0.1, NAN])),
        np.array([0.6, 0.8]),
    )


def test_a_record_holds_all_of_a_finding():
    dtype = record_dtype(3, 7)
    for one in (finding(), finding(br=NAN)):
        again = unpacked(packed(one, dtype)[0])
        for field in dataclasses.fields(Finding):
            value, other = getattr(one, field.name), getattr(again, field.name)
            parts = [dataclasses.astuple(x) if isinstance(x, Control) else [x] for x in (value, other)]
            for a, b in zip(*parts, strict=True):
                np.testing.assert_array_equal(a, b)
    assert unpacked(packed(None, dtype)[0]) is None


def test_tables_say_nothing_of_the_use_of_what_was_not_learnt():
    rows = [Row("a", "size", finding()), Row("b", "size", finding(r2=-0.1)), Row("b", "count", None)]
    table = list(csv.DictReader("".join(table_lines(rows)).splitlines()))
    # one of three shuffled concepts, and this one counted: 1 in 4
    assert [row["verdict"] for row in table] == ["no better than chance", "not learnt", "not measured"]
    assert table[0]["p_r2"] == "0.25"
    assert table[0]["tcav"] == "0.9"
    assert (table[1]["r2"], table[1]["tcav"], table[1]["br"], table[1]["p_br"]) == ("-0.1", "", "", "")
    assert table[2]["r2"] == ""
    found = json.loads(document_text({"seed": 1}, rows))["findings"]
    assert found[0]["tcav"] == {"value": 0.9, "low": 0.8, "high": 1.0}
    assert found[1]["tcav"] is found[1]["br"] is found[1]["sensitivity"] is None
    assert found[0]["random"]["tcav"] == [0.1, None, 0.9]
    assert found[2] == {"layer": "b", "concept": "count", "verdict": "not measured"}


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({}, Verdict.FOR),
        ({"r2": Interval(0.0, -0.1, 0.1)}, Verdict.NOT_LEARNT),
        ({"r2": Interval(NAN, NAN, NAN)}, Verdict.NOT_LEARNT),
        ({"r2": Interval(0.01, 0, 0.1)}, Verdict.CHANCE),
        ({"tcav": Interval(0.9, 0.4, 1.0)}, Verdict.ENCODED),
        ({"br": Interval(1.0, -0.1, 2.0)}, Verdict.ENCODED),
        ({"br": Interval(NAN, NAN, NAN)}, Verdict.FOR),
        ({"tcav": Interval(0.1, 0.0, 0.2), "br": Interval(-1.0, -2.0, -0.5)}, Verdict.AGAINST),
        ({"tcav": Interval(NAN, NAN, NAN)}, Verdict.ENCODED),
    ],
)
def test_verdicts(changes, verdict):
    control = Control(np.linspace(-0.2, 0.02, 100), np.full(100, 0.5), np.zeros(100))
    assert dataclasses.replace(finding(), control=control, **changes).verdict is verdict


def test_what_is_drawn_follows_from_the_seed_and_the_concept_alone():
    chance = Chance(3, 4, 50)
    np.testing.assert_array_equal(chance.shuffles(1, 20), Chance(3, 4, 50).shuffles(1, 20))
    assert (chance.shuffles(1, 20) != chance.shuffles(2, 20)).any()
    np.testing.assert_array_equal(np.sort(chance.shuffles(1, 20)), np.tile(np.arange(20), (4, 1)))
    draws = chance.draws(6)
    assert draws.shape == (50, 6)
    assert (draws.sum(axis=1) == 6).all()


def test_nothing_is_found_where_there_is_too_little():
    rng = np.random.default_rng(0)
    activations, values = rng.normal(size=(40, 3)), rng.normal(size=40)
    patients, folds = np.arange(40) % 4, np.arange(40) % 2

    def look(values, patients=patients, folds=folds):
        return examined(activations, activations, values, patients, folds, Chance(0, 20, 20), 0)

    assert look(values).n_patches == 40
    some = np.where(np.arange(40) < 30, values, NAN)
    assert look(some).n_patches == 30
    assert look(np.where(patients < 2, values, NAN)) is None
    assert look(np.full(40, 7.1)) is None
    assert look(np.full(40, NAN)) is None
    assert look(values, folds=np.zeros(40, int)) is None
