"""The table of formats: names and endings are told apart, and all functions that it names are there."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.export import formats
from pyramidai_mpi.export.formats import EXPLAINED, FORMATS, Order, carry_out, check_orders, parse_formats
from tests.results import result_of, write_file

WRITERS = [(one.writer, one.draws_slide) for one in (*FORMATS, *EXPLAINED)]
WRITERS += [(variant.writer, False) for one in FORMATS for variant in one.variants]


@pytest.mark.parametrize(("writer", "draws_slide"), WRITERS)
def test_a_writer_takes_what_it_is_given(writer, draws_slide):
    slide = (Path("slide.tif"),) if draws_slide else ()
    inspect.signature(formats.load(writer)).bind(Path("a.h5"), Path("a"), *slide, overwrite=True)


TAKING = [(one.writer, one.draws_slide, setting) for one in (*FORMATS, *EXPLAINED) for setting in one.settings]
TAKING += [(each.writer, False, setting) for one in FORMATS for each in one.variants for setting in each.settings]


@pytest.mark.parametrize(("writer", "draws_slide", "setting"), TAKING)
def test_a_writer_takes_what_it_can_be_told(writer, draws_slide, setting):
    slide = (Path("slide.tif"),) if draws_slide else ()
    told = {setting.name: None}
    inspect.signature(formats.load(writer)).bind(Path("a.h5"), Path("a"), *slide, overwrite=True, **told)
    assert callable(formats.load(setting.parse))


def test_a_setting_reaches_the_writer_and_tells_one_order_from_another(monkeypatch, tmp_path):
    (csv,) = parse_formats("csv")
    (levels,) = csv.settings
    order = Order(csv, tmp_path / "t.csv", settings=((levels, "2,0"),))
    assert (order.way, Order(csv, tmp_path / "t.csv").way) == ("levels=2,0", "")
    assert order.keywords() == {"levels": (0, 2)}
    asked = []
    parse = formats.load(levels.parse)
    monkeypatch.setattr(
        formats, "load", lambda name: parse if name == levels.parse else lambda *_, **words: asked.append(words)
    )
    carry_out(order, write_file(tmp_path / "a.h5", result_of()))
    assert asked == [{"overwrite": False, "levels": (0, 2)}]


@pytest.mark.parametrize("text", ["", "0,", "a", "-1", "0-2", "²"])
def test_levels_that_are_none_are_refused_before_the_work(text, tmp_path):
    (csv,) = parse_formats("csv")
    with pytest.raises(UsageError, match="--levels"):
        check_orders([Order(csv, tmp_path / "t.csv", settings=((csv.settings[0], text),))], "slide.tif")


@pytest.mark.parametrize("writer", [writer for writer, draws_slide in WRITERS if not draws_slide])
def test_a_writer_that_could_draw_the_slide_is_given_it(writer):
    assert "slide" not in inspect.signature(formats.load(writer)).parameters


@pytest.mark.parametrize("one", [one for one in (*FORMATS, *EXPLAINED) if one.metavar == "DIR"])
def test_a_format_that_makes_a_folder_is_checked_as_one(one, tmp_path):
    (tmp_path / "a.h5").touch()
    check_orders([Order(one, tmp_path / "new")], "slide.tif", inputs=[tmp_path / "a.h5"])
    assert one.check


def test_words_and_endings_are_told_apart():
    for table in (FORMATS, EXPLAINED):
        words = [one.name for one in table] + [variant.name for one in table for variant in one.variants]
        assert len(set(words)) == len(words)
        assert len({one.suffix for one in table}) == len(table)


def test_what_both_can_be_made_into_is_asked_for_alike():
    own = {one.name: one for one in FORMATS}
    shared = [one for one in EXPLAINED if one.name in own]
    assert [one.metavar for one in shared] == [own[one.name].metavar for one in shared]
    assert len(shared) > 3


def test_a_variant_is_written_by_its_own_writer(monkeypatch, tmp_path):
    asked, result = [], write_file(tmp_path / "a.h5", result_of())
    monkeypatch.setattr(formats, "load", lambda name: lambda *given, **words: asked.append((name, given, words)))
    (geojson,) = parse_formats("geojson")
    for variant in (None, *geojson.variants):
        carry_out(Order(geojson, Path("t"), variant), result, Path("slide.tif"), overwrite=True)
    assert [name for name, _, _ in asked] == [geojson.writer, *(variant.writer for variant in geojson.variants)]
    assert {given for _, given, _ in asked} == {(result, Path("t"))}
    assert all(words == {"overwrite": True} for _, _, words in asked)


def test_each_word_counts_once_in_its_order():
    assert [one.name for one in parse_formats(" csv,geojson, csv,")] == ["csv", "geojson"]
