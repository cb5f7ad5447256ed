"""All files of a slide are found, or it is said that they cannot be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.slides.files_of_slide import files_of_slide

if TYPE_CHECKING:
    from pathlib import Path


def test_a_tiff_is_one_file(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    (tmp_path / "b.tif").write_bytes(b"II*\0")
    assert files_of_slide(tmp_path / "a.tif") == [tmp_path / "a.tif"]


def test_of_mirax_the_folder_of_its_name_belongs_to_it(tmp_path: Path) -> None:
    slide = tmp_path / "a.mrxs"
    slide.touch()
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name in ("Slidedat.ini", "Data0000.dat"):
            (tmp_path / folder / name).touch()
    assert files_of_slide(slide) == [slide, tmp_path / "a" / "Data0000.dat", tmp_path / "a" / "Slidedat.ini"]


def dicom(series: bytes) -> bytes:
    """The head of a DICOM file of a series, in explicit VR."""
    value = series + b"\0" * (len(series) % 2)
    return b"\0" * 128 + b"DICM" + b"\x20\x00\x0e\x00UI" + len(value).to_bytes(2, "little") + value + b"\0" * 8


def test_of_dicom_the_files_of_its_series_belong_to_it(tmp_path: Path) -> None:
    for name, series in (("2", b"1.2.3"), ("1", b"1.2.3"), ("3", b"1.2.4")):
        (tmp_path / name).write_bytes(dicom(series))
    (tmp_path / "notes.txt").write_text("none")
    assert files_of_slide(tmp_path / "2") == [tmp_path / "2", tmp_path / "1"]


def test_what_names_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.vms").touch()
    with pytest.raises(InputError, match="--own-disks"):
        files_of_slide(tmp_path / "a.vms")


def test_what_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        files_of_slide(tmp_path / "a.tif")
