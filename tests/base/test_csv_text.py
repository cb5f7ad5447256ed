"""A table opens in a spreadsheet as what it says, and is read back by pandas' and Python's readers."""

from __future__ import annotations

import csv
import io

import pytest

from pyramidai_mpi.base.csv_text import csv_row

FORMULAS = ["=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(1)", "=1", " =1", "\uff1dSUM(1)", "-x.svs", "+49 30 1234"]


@pytest.mark.parametrize("name", FORMULAS)
def test_what_a_spreadsheet_would_compute_is_a_text(name):
    assert next(csv.reader([csv_row([name, 1])])) == [f"'{name}", "1"]


@pytest.mark.parametrize("name", ["a.svs", "a=b.svs", "'=1", "-1", "+1.5e3", "-inf", '"x", y', "a;b", "", "ä β"])
def test_everything_else_stays_as_it_is(name):
    assert next(csv.reader(io.StringIO(csv_row(["first", name])))) == ["first", name]


def test_a_number_is_no_formula_and_nothing_is_an_empty_cell():
    assert csv_row([-1, -0.5, None, float("nan")]) == "-1,-0.5,,nan\n"


@pytest.mark.parametrize("name", ["\t=1", "\r=1", "a\nb", "a\r\n=1", "\x00", "\x1b[2J", "\u202egnp"])
def test_what_cannot_be_printed_begins_neither_a_line_nor_a_formula(name):
    row = csv_row([name])
    assert row[:-1].isprintable()
    assert not row.startswith(("=", "\t"))
    assert row.count("\n") == 1
