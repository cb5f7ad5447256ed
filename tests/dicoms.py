"""Slides in DICOM, written with pydicom: a file a level, all of one series."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, VLWholeSlideMicroscopyImageStorage, generate_uid

if TYPE_CHECKING:
    from collections.abc import Sequence as Images
    from pathlib import Path

SIDE = 256


def write_dicom_slide(folder: Path, levels: Images[np.ndarray], mpp: float = 0.25) -> list[Path]:
    """One uncompressed file a level, uint8 (H, W, 3), in tiles of `SIDE`; their paths, the finest first."""
    folder.mkdir(parents=True, exist_ok=True)
    series, study, frame_of_reference = generate_uid(), generate_uid(), generate_uid()
    paths = []
    for number, image in enumerate(levels):
        height, width = image.shape[:2]
        rows, cols = -(-height // SIDE), -(-width // SIDE)
        padded = np.full((rows * SIDE, cols * SIDE, 3), 255, np.uint8)
        padded[:height, :width] = image
        frames = padded.reshape(rows, SIDE, cols, SIDE, 3).swapaxes(1, 2)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = VLWholeSlideMicroscopyImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = folder / f"{number}.dcm"
        data = FileDataset(path, {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = study, series, frame_of_reference
        data.Modality, data.PatientID, data.PatientName = "SM", "", ""
        data.ImageType = [
            "ORIGINAL" if number == 0 else "DERIVED",
            "PRIMARY",
            "VOLUME",
            "NONE" if number == 0 else "RESAMPLED",
        ]
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PlanarConfiguration = 3, "RGB", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.Rows = data.Columns = SIDE
        data.NumberOfFrames = rows * cols
        data.TotalPixelMatrixColumns, data.TotalPixelMatrixRows = width, height
        data.DimensionOrganizationType = "TILED_FULL"
        data.ImagedVolumeWidth, data.ImagedVolumeHeight = width * mpp * 2**number / 1e3, height * mpp * 2**number / 1e3
        measures, shared = Dataset(), Dataset()
        measures.PixelSpacing = [mpp * 2**number / 1e3] * 2  # mm
        measures.SliceThickness = 0.001
        shared.PixelMeasuresSequence = Sequence([measures])
        data.SharedFunctionalGroupsSequence = Sequence([shared])
        data.PixelData = frames.tobytes()
        data.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def series_of(path: Path) -> str:
    """The series that a file says to be of, by pydicom."""
    return str(pydicom.dcmread(path, stop_before_pixels=True).SeriesInstanceUID)
