"""A folder of the DICOM files of one series is a slide: its largest file stands for it, OpenSlide finds the rest."""

from __future__ import annotations

import shutil

import numpy as np
import openslide
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.run.selection import plan_outputs, select_slides
from pyramidai_mpi.slides.dicom import dicom_slide_in, file_of_slide
from pyramidai_mpi.slides.readers.choice import open_slide
from tests.dicoms import series_of, write_dicom_slide
from tests.tiffs import textured


@pytest.fixture(scope="module")
def image():
    return textured(1024, 768)


@pytest.fixture
def folder(image, tmp_path):
    """A slide of three levels."""
    write_dicom_slide(tmp_path / "case 7", [image, image[::2, ::2], image[::4, ::4]])
    return tmp_path / "case 7"


def test_a_folder_is_one_slide_with_all_its_levels(folder, image):
    selection = select_slides([folder], None)
    (entry,) = selection.entries
    assert not selection.is_cohort
    assert entry.slide == folder / "0.dcm"
    assert plan_outputs([entry.slide], None, None, [entry.name])[0].name == "case 7.h5"
    reader = open_slide(entry.slide)
    assert reader.info.vendor == "dicom"
    assert reader.info.stored_sizes == ((1024, 768), (512, 384), (256, 192))
    assert np.array_equal(reader.read((0, 0), 0, (1024, 768)), image)
    reader.close()


def test_hidden_files_and_folders_do_not_count_and_other_files_do(folder):
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "more").mkdir()
    assert dicom_slide_in(folder) == folder / "0.dcm"
    (folder / "readme.txt").write_text("no slide")
    assert dicom_slide_in(folder) is None
    with pytest.raises(InputError, match="holds no slide"):
        select_slides([folder], None)


def test_two_slides_in_a_folder_are_refused_with_what_to_do(folder, image):
    for path in write_dicom_slide(folder.parent / "other", [image[:300, :300]]):
        shutil.copy(path, folder / f"other {path.name}")
    with pytest.raises(InputError, match=r"case 7: holds DICOM files of 2 series; give one file of each slide"):
        select_slides([folder], None)
    assert openslide.OpenSlide(folder / "other 0.dcm").dimensions == (300, 300)  # as it says


def test_an_empty_folder_is_none(tmp_path):
    assert dicom_slide_in(tmp_path) is None


def with_nested_series(path, syntax, *, undefined_length):
    """A DICOM file that names another series, within sequences, before and after its own."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.77.1.6", generate_uid()
    data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
    inner, outer = Dataset(), Dataset()
    inner.SeriesInstanceUID = generate_uid()
    outer.ReferencedInstanceSequence = Sequence([inner, inner])
    outer.SeriesInstanceUID = generate_uid()
    data.ReferencedSeriesSequence = Sequence([outer, outer])
    data.PatientName = "a name"
    data.add_new(0x00091010, "OB", b"\x20\x00\x0e\x00UI\x04\x001.23")  # bytes of somebody's own, which look like it
    data.SeriesInstanceUID = generate_uid()
    data.ContainerComponentSequence = Sequence([inner])
    for sequence in (data["ReferencedSeriesSequence"], outer["ReferencedInstanceSequence"]):
        sequence.is_undefined_length = undefined_length
        for item in sequence.value:
            item.is_undefined_length_sequence_item = undefined_length
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("undefined_length", [True, False])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian], ids=["explicit", "implicit"])
def test_the_series_is_the_one_that_pydicom_reads(tmp_path, syntax, undefined_length):
    path = with_nested_series(tmp_path / "a.dcm", syntax, undefined_length=undefined_length)
    assert dicom_slide_in(tmp_path) == path
    again = pydicom.dcmread(path)
    again.PatientName = "a longer name"
    again.save_as(tmp_path / "b.dcm")  # the same series
    assert series_of(path) == series_of(tmp_path / "b.dcm")
    assert dicom_slide_in(tmp_path) is not None
    again.SeriesInstanceUID = generate_uid()
    again.save_as(tmp_path / "c.dcm")
    with pytest.raises(InputError, match="2 series"):
        dicom_slide_in(tmp_path)


@pytest.mark.parametrize("cut", [132, 133, 140, 200, 400])
def test_a_file_that_ends_early_is_of_no_known_series(tmp_path, cut):
    whole = with_nested_series(tmp_path / "a.dcm", ExplicitVRLittleEndian, undefined_length=True).read_bytes()
    (tmp_path / "b.dcm").write_bytes(whole[:cut])
    with pytest.raises(InputError, match="2 series"):
        dicom_slide_in(tmp_path)


def test_files_of_a_rare_encoding_are_left_to_openslide(tmp_path):
    with_nested_series(tmp_path / "a.dcm", DeflatedExplicitVRLittleEndian, undefined_length=False)
    assert dicom_slide_in(tmp_path) == tmp_path / "a.dcm"
    with pytest.raises(InputError):
        open_slide(tmp_path / "a.dcm")


def test_whoever_takes_a_slide_takes_the_folder(folder, capsys):
    for command in (["info", str(folder)], ["tissue", str(folder)]):
        assert run_command_line(command) == 0
    said = capsys.readouterr().out
    assert "1024 x 768 px" in said
    assert "0.dcm: " in said


def test_what_is_no_folder_of_one_series_stays_what_it_is(folder, tmp_path):
    assert file_of_slide(folder) == folder / "0.dcm"
    assert file_of_slide(folder / "1.dcm") == folder / "1.dcm"
    assert file_of_slide(tmp_path) == tmp_path
    assert file_of_slide(tmp_path / ("x" * 300)) == tmp_path / ("x" * 300)
