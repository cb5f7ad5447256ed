"""The table of readers agrees with what the settings let a user ask for."""

from __future__ import annotations

import pytest

from pyramidai_mpi.base import settings
from pyramidai_mpi.process import host
from pyramidai_mpi.run import deciding
from pyramidai_mpi.slides.readers import choice


def test_the_settings_know_the_readers_of_the_table():
    assert sorted(settings.READERS) == sorted(["auto", *choice.READERS])


@pytest.mark.parametrize("row", choice.READERS.values(), ids=lambda row: row.name)
def test_libraries_that_decide_pixels_have_their_versions_written_down(row):
    assert set(row.libraries) <= set(deciding._LIBRARIES)
    assert set(row.libraries) <= set(host._LIBRARIES)


def test_auto_gives_a_slide_to_the_first_reader_that_takes_it(monkeypatch, tmp_path):
    def row(name, ending):
        return choice.ReaderChoice(
            name, lambda path: path.suffix == ending, lambda path, asked: (name, asked.by_name), ()
        )

    rows = [row("first", ".a"), row("second", ".b"), row("third", ".b")]
    monkeypatch.setattr(choice, "READERS", {one.name: one for one in rows})
    slide = tmp_path / "slide.b"
    slide.touch()
    assert choice.open_slide(slide) == ("second", False)
    assert choice.open_slide(slide, "third") == ("third", True)
