"""Which slides a command means: files, folders, patterns and tables; what is wrong in a table is told by its line."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import InputError, PyramidError, UsageError, printable
from pyramidai_mpi.run.selection import SlideEntry, plan_outputs, read_slide_table, select_slides
from pyramidai_mpi.slides.readers.choice import open_slide


@pytest.fixture
def table(tmp_path: Path):
    """Write a table of slides; gives its path."""

    def write(text: str | bytes) -> Path:
        path = tmp_path / "list.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_row_is_a_slide_relative_to_the_table(table, tmp_path):
    entries = read_slide_table(table("wsi,mpp,output\na.svs,0.25,case1\nsub/b.tif,,\n/far/c.tif,0.5,c.v2.h5\n"))
    assert entries == [
        SlideEntry(tmp_path / "a.svs", 0.25, "case1.h5"),
        SlideEntry(tmp_path / "sub/b.tif", None, None),
        SlideEntry(Path("/far/c.tif"), 0.5, "c.v2.h5"),
    ]


def test_columns_may_stand_in_any_order_and_be_left_out(table, tmp_path):
    assert read_slide_table(table("wsi\na.svs\n")) == [SlideEntry(tmp_path / "a.svs")]
    assert read_slide_table(table("mpp,WSI\n1e-1,a.svs\n")) == [SlideEntry(tmp_path / "a.svs", 0.1)]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffwsi,mpp\r\na.svs,0.25\r\n",
        "wsi, mpp\n\na.svs, 0.25\n , \n",
        '"wsi","mpp"\n"a.svs","0.25"',
        "wsi , mpp\n a.svs , 0.25 \n",
        "wsi,mpp\na.svs,0.25,\n",
        "wsi,mpp,,\na.svs,0.25,,\n,,,\n",
        "wsi;mpp\r\na.svs;0,25\r\n",
        '"wsi";"mpp";"output"\n"a.svs";0.25;\n',
        "sep=;\nwsi;mpp\na.svs;0,25\n",
        '\ufeffsep=,\r\nwsi,mpp\r\na.svs,"0,25"\r\n',
        "wsi\tmpp\na.svs\t0,25\n",
        "wsi\tmpp\r\na.svs\t0,25\r\n".encode("utf-16"),
        codecs.BOM_UTF16_BE + "wsi;mpp\ra.svs;0.25\r".encode("utf-16-be"),
    ],
    ids=[
        "from Excel",
        "blank lines and blanks after commas",
        "quoted",
        "blanks everywhere",
        "a comma at the end",
        "empty columns at the end",
        "semicolons and decimal commas",
        "semicolons and quotes",
        "told by its first line",
        "told to be commas",
        "tabs",
        "Unicode text",
        "UTF-16 the other way round",
    ],
)
def test_a_table_may_be_written_by_other_programs(table, tmp_path, text):
    assert read_slide_table(table(text)) == [SlideEntry(tmp_path / "a.svs", 0.25)]


@pytest.mark.parametrize("end", [",", ";", "\t", " ; "])
def test_of_a_single_column_empty_cells_at_the_end_are_none(table, tmp_path, end):
    assert read_slide_table(table(f"wsi\na.svs{end}\nb.svs{end}\n")) == [
        SlideEntry(tmp_path / "a.svs"),
        SlideEntry(tmp_path / "b.svs"),
    ]


def test_a_name_may_hold_what_separates_others(table, tmp_path):
    (tmp_path / "a;1.svs").touch()
    (tmp_path / "b,2.svs").touch()
    entries = read_slide_table(table('wsi;mpp\n"a;1.svs";0,25\nb,2.svs;\n'))
    assert entries == [SlideEntry(tmp_path / "a;1.svs", 0.25), SlideEntry(tmp_path / "b,2.svs")]
    assert read_slide_table(table("wsi\na;1.svs\n")) == [SlideEntry(tmp_path / "a;1.svs")]


def test_a_slide_given_as_a_table_is_refused_without_being_read_whole(tmp_path):
    with (tmp_path / "slide.svs").open("wb") as file:
        file.write(b"II*\0")
        file.truncate(1 << 40)  # sparse: more than any memory
    with pytest.raises(InputError, match="larger than 64 MiB"):
        read_slide_table(tmp_path / "slide.svs")


def test_blanks_around_a_name_belong_to_it_where_there_is_such_a_file(table, tmp_path):
    (tmp_path / "a.svs ").touch()
    entries = read_slide_table(table("wsi,output\na.svs , one \nb.svs ,\n"))
    assert entries == [SlideEntry(tmp_path / "a.svs ", None, "one.h5"), SlideEntry(tmp_path / "b.svs")]


def test_a_name_may_hold_commas_line_breaks_and_bytes_of_no_encoding(table, tmp_path):
    entries = read_slide_table(table(b'wsi\n"a,b.svs"\n"c\nd.svs"\ne\xff.svs\n'))
    assert [entry.slide.name for entry in entries] == ["a,b.svs", "c\nd.svs", "e\udcff.svs"]


@pytest.mark.parametrize(
    ("text", "error", "line", "said"),
    [
        ("", InputError, None, "is empty"),
        ("wsi,mpp\n", InputError, None, "names no slide"),
        ("slide,mpp\na.svs,1\n", InputError, 1, "'slide'"),
        ("mpp,output\n1,a\n", InputError, 1, "no column wsi"),
        ("wsi;label\na.svs;x\n", InputError, 1, "unknown column 'label'"),
        ("wsi;mpp\na.svs,0.25\n", InputError, 2, "'a.svs,0.25' is no file; cells are separated by ';'"),
        ("wsi,mpp\na.svs,0.25\nb.svs;0,25\n", InputError, 3, "'b.svs;0' is no file"),
        ("wsi;mpp\na.svs;1.234,5\n", InputError, 2, "'1.234,5'"),
        ("wsi;mpp\na.svs;0,25;x\n", InputError, 2, "3 cells for 2 columns"),
        ("wsi;mpp,output\n", InputError, 1, "unknown column"),
        ("wsi,label\na.svs,x\n", InputError, 1, "unknown column 'label'"),
        ("wsi\na.svs,x\n", InputError, 2, "2 cells for 1 columns"),
        ("wsi\na.svs\n".encode("utf-16") + b"x", InputError, None, "begins as UTF-16"),
        ("wsi\na.svs\n".encode("utf-16-be"), InputError, None, "is UTF-16"),
        ("wsi,mpp,colour\na.svs,1,red\n", InputError, 1, "'colour'"),
        ("wsi,wsi\na.svs,b.svs\n", InputError, 1, "twice"),
        ("wsi,mpp\na.svs,1\n,2\n", InputError, 3, "names no slide"),
        ("wsi,mpp\na.svs,fine\n", InputError, 2, "'fine'"),
        ("wsi,mpp\na.svs,0\n", InputError, 2, "'0'"),
        ("wsi,mpp\na.svs,-0.25\n", InputError, 2, "'-0.25'"),
        ("wsi,mpp\na.svs,nan\n", InputError, 2, "'nan'"),
        ("wsi,mpp\na.svs,inf\n", InputError, 2, "'inf'"),
        ("wsi,mpp\na.svs,0,25\n", InputError, 2, "3 cells for 2 columns"),
        ("wsi\na.svs\n\nb.svs\nsub/../a.svs\n", InputError, None, "line 5: slide a.svs is in line 2 already"),
        ('wsi\n"a\nb.svs"\na\x00.svs\n', InputError, 4, "zero byte"),
        ('wsi\n"a.svs\n', InputError, 2, "CSV"),
        ("wsi,output\na.svs,up/a\n", InputError, 2, "'up/a'"),
        ("wsi,output\na.svs,/etc/a\n", InputError, 2, "'/etc/a'"),
        ("wsi,output\na.svs,..\n", InputError, 2, "'..'"),
        ("wsi,output\na.svs,c\nb.svs,c.h5\n", UsageError, 3, "c.h5"),
        ("wsi\nx/a.svs\ny/a.tif\n", UsageError, 3, "line 2"),
        ("wsi,output\na.svs,b\nb.svs,\n", UsageError, 3, "b.h5"),
    ],
    ids=lambda value: repr(value) if isinstance(value, str) else "",
)
def test_what_is_wrong_is_told_in_one_line_with_its_line(table, text, error, line, said):
    path = table(text)
    with pytest.raises(PyramidError) as caught:
        read_slide_table(path)
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert said in str(caught.value)
    assert line is None or f"line {line}: " in str(caught.value)


def test_a_table_that_is_not_there_is_bad_input(tmp_path):
    for path in (tmp_path / "gone.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"):
            read_slide_table(path)


def test_a_folder_means_its_slides_by_name_and_nothing_else_in_it(tmp_path):
    for name in ("b.SVS", "a.tif", "c.ndpi", "notes.txt", "a.h5", ".hidden.tif", "a.heatmap.tif"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.tif").mkdir()
    selection = select_slides([tmp_path], None)
    assert [entry.slide.name for entry in selection.entries] == ["a.tif", "b.SVS", "c.ndpi"]
    assert selection.is_cohort


def test_a_pattern_means_the_files_that_it_fits(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b1.svs", "a1.svs", "a2.svs", "deep/a3.svs"):
        (tmp_path / name).write_bytes(b"")
    assert [entry.slide.name for entry in select_slides([tmp_path / "a*.svs"], None).entries] == ["a1.svs", "a2.svs"]
    found = select_slides([tmp_path / "**" / "a?.svs"], None).entries
    assert [entry.slide.name for entry in found] == ["a1.svs", "a2.svs", "a3.svs"]
    assert select_slides([tmp_path / "b*"], None).is_cohort


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    (tmp_path / "a[1].svs").write_bytes(b"")
    (tmp_path / "a1.svs").write_bytes(b"")
    selection = select_slides([tmp_path / "a[1].svs"], None)
    assert [entry.slide.name for entry in selection.entries] == ["a[1].svs"]
    assert not selection.is_cohort


@pytest.mark.parametrize("word", ["empty", "*.svs"])
def test_a_folder_or_pattern_without_a_slide_is_bad_input(tmp_path, word):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: holds no slide|no file of such a name"):
        select_slides([tmp_path / word], None)


def test_nothing_at_all_is_a_usage_error():
    with pytest.raises(UsageError, match="--slides"):
        select_slides([], None)


def test_one_file_is_one_slide_and_a_table_of_one_is_a_cohort(table):
    assert not select_slides([Path("gone.svs")], None).is_cohort
    assert select_slides([Path("a.svs"), Path("b.svs")], None).is_cohort
    assert select_slides([], table("wsi\na.svs\n")).is_cohort


def test_results_of_evil_names_stay_in_their_folder(table, tmp_path):
    (tmp_path / "results").mkdir()
    text = 'wsi,output\n../up.tif,\n"x\x1b[2J\ny.tif",\nc.tif,"a\n\x1b[31m"\n../..,\n'
    entries = read_slide_table(table(text))
    slides, names = [entry.slide for entry in entries], [entry.name for entry in entries]
    outputs = plan_outputs(slides, None, tmp_path / "results", names)
    assert len(outputs) == 4
    for output in outputs:
        assert output.resolve().parent == (tmp_path / "results").resolve()
        assert output.suffix == ".h5"
        assert printable(str(output)).isprintable()


def test_of_a_table_in_another_encoding_it_is_said_how_to_save_it(table):
    (entry,) = read_slide_table(table("wsi\nSchnitt_\xe4.tif\n".encode("cp1252")))
    with pytest.raises(InputError, match=r"no such slide; its name is no UTF-8: save a table as CSV UTF-8"):
        open_slide(entry.slide)
    entry.slide.touch()  # named alike
    with pytest.raises(InputError, match="not a whole-slide image"):
        open_slide(entry.slide)
