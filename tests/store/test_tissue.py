"""The mask in bands is the mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from pyramidai_mpi.store.results import tissue, writer
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.store.results.tables import read_header, read_mask_rows
from tests.results import result_of, write_file

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("band", [1, 4, 7, 512])
def test_the_mask_in_bands_is_that_of_the_result(band: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tissue, "_BAND", band)
    made = result_of()
    mask = made.tissue.mask
    with open_result(write_file(tmp_path / "r.h5", made)) as file:
        header = read_header(file)
        packed = tissue.read_packed_mask(file, header)
        counts = tissue.read_tissue_counts(file, header, (24, 18))
        assert np.array_equal(read_mask_rows(file, 3, 9), mask[3:9])
    assert np.array_equal(np.unpackbits(packed, axis=1, count=mask.shape[1]).astype(bool), mask)
    padded = np.zeros((36, 48), bool)  # tiles of 2 x 2 pixels, some of them beyond the mask
    padded[: mask.shape[0], : mask.shape[1]] = mask
    assert np.array_equal(counts, padded.reshape(18, 2, 24, 2).sum(axis=(1, 3)))


def test_a_band_of_a_large_mask_is_in_few_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_MASK_CHUNK_BYTES", 200)
    made = result_of()
    with h5py.File(write_file(tmp_path / "r.h5", made)) as file:
        assert file["tissue/mask"].chunks == (200 // made.tissue.mask.shape[1], made.tissue.mask.shape[1])
        assert np.array_equal(file["tissue/mask"][...], made.tissue.mask)
