"""Tables as spreadsheets save them are read as they were meant, or refused in one line."""

from __future__ import annotations

import codecs
import math

import pandas
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyramidai_mpi.base.csv_reading import read_csv, read_number, read_plain_text
from pyramidai_mpi.base.errors import InputError

NAMES = ["wsi", "mpp", "note"]
CELLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=6)


def is_slides(rows):
    return bool(rows) and rows[0].cells == NAMES


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=4),
    separator=st.sampled_from(",;\t"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_what_pandas_writes_in_any_dialect_is_read_back(tmp_path, rows, separator, encoding, end):
    path = tmp_path / "t.csv"
    pandas.DataFrame(rows, columns=NAMES).to_csv(
        path, sep=separator, encoding=encoding, lineterminator=end, index=False
    )
    table = read_csv(path, is_slides)
    assert table.separator == separator
    assert [row.cells for row in table.rows] == [NAMES, *map(list, rows)]
    assert [row.line for row in table.rows] == list(range(1, len(rows) + 2))


def test_blank_lines_and_cells_at_the_end_are_left_out_and_lines_keep_their_numbers(tmp_path):
    (tmp_path / "t.csv").write_text('\n;;;\nwsi;mpp;note;\n\na;1;"two\nlines";;\n ; \nb;2;x\n')
    rows = read_csv(tmp_path / "t.csv", is_slides).rows
    assert [(row.line, row.cells) for row in rows] == [(3, NAMES), (5, ["a", "1", "two\nlines"]), (8, ["b", "2", "x"])]


@pytest.mark.parametrize("told", ["sep=;\n", "SEP=;\r\n", "\ufeffsep=; \n"])
def test_a_separator_that_the_file_tells_is_taken(tmp_path, told):
    (tmp_path / "t.csv").write_text(f"{told}a,b;c\n", encoding="utf-8", newline="")
    table = read_csv(tmp_path / "t.csv", lambda _rows: False)
    assert (table.separator, table.rows) == (";", [(2, ["a,b", "c"])])


@pytest.mark.parametrize("told", ['"', " ", "a", "1"])
def test_a_separator_that_could_be_none_is_refused(tmp_path, told):
    (tmp_path / "t.csv").write_text(f"sep={told}\nwsi\na.svs\n")
    with pytest.raises(InputError, match=r"t.csv: its line sep=.* names no separator"):
        read_csv(tmp_path / "t.csv", is_slides)


def test_where_two_separators_fit_it_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("a;tumor;b,tumor\n")
    with pytest.raises(
        InputError, match=r"t.csv: can be read as separated by (commas and by semi|semicolons and by com)"
    ):
        read_csv(tmp_path / "t.csv", lambda rows: rows[0].cells[1] == "tumor")
    (tmp_path / "t.csv").write_text('a;tumor;"b,tumor"\n')
    with pytest.raises(InputError, match="can be read as"):  # quotes hold a cell together at its beginning alone
        read_csv(tmp_path / "t.csv", lambda rows: len(rows[0].cells) > 1)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (codecs.BOM_UTF16_LE + b"a\0b", "begins as UTF-16 and goes on otherwise"),
        ("wsi\na.svs\n".encode("utf-16-le"), "is UTF-16 without its mark, or no text at all"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, said):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(InputError, match=said):
        read_plain_text(tmp_path / "t.csv")


def test_bytes_of_no_encoding_are_kept_as_in_names_of_files(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"wsi\ncaf\xe9.svs\n")
    assert read_csv(tmp_path / "t.csv", bool).rows[1].cells == ["caf\udce9.svs"]


@pytest.mark.parametrize(
    ("text", "value"), [("0.25", 0.25), ("0,25", 0.25), (" 0,5 ", 0.5), ("1e-1", 0.1), ("1,5e-1", 0.15), ("3", 3)]
)
def test_a_number_may_have_a_point_or_a_comma(text, value):
    assert math.isclose(read_number(text), value)


@pytest.mark.parametrize("text", ["1.234,5", "1,234,5", "", "fine", "0, 25"])
def test_what_may_be_several_numbers_is_none(text):
    with pytest.raises(ValueError, match="could not convert"):
        read_number(text)
