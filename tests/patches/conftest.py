"""Files of patches of one slide, labelled and measured, that no test changes."""

from __future__ import annotations

import numpy as np
import pytest

from pyramidai_mpi.patches.report import write_patch_report
from tests.patch_files import labelled, order_of, write_patches_of

LABELS = ("tumor", "normal", "<i>odd & ends</i>")


def label_of(n: int) -> np.ndarray:
    """Numbers of labels: the first two by turns, a few of the third, none for the last twenty."""
    label = np.arange(n) % 2
    label[10:13] = 2
    label[-20:] = -1
    return label


@pytest.fixture(scope="session")
def change():
    """Labels and shares as if they had been measured: tumour of all but ten, white of all, black of none."""
    n = 192
    tumor = np.linspace(0, 1, n, dtype=np.float32)
    tumor[-10:] = np.nan
    white = (np.arange(n) % 7 / 10).astype(np.float32)
    origin = {"patient": "24", "node": "4", "centre": "<u>1</u>"}
    return labelled(LABELS, label_of(n), origin, tumor=tumor, white=white)


@pytest.fixture(scope="session")
def kept(lossless_slide, tmp_path_factory, change):
    """A file with the slide's tiles."""
    path = tmp_path_factory.mktemp("report") / "kept.patches.h5"
    return write_patches_of(lossless_slide, path, order_of(), change=change)


@pytest.fixture(scope="session")
def bare(lossless_slide, tmp_path_factory, change):
    """The same without pixels."""
    path = tmp_path_factory.mktemp("report") / "bare.patches.h5"
    return write_patches_of(lossless_slide, path, order_of(pixels="none"), change=change)


@pytest.fixture(scope="session")
def page_of_kept(kept):
    """The page of the file with tiles."""
    write_patch_report(kept, kept.with_name("kept.html"), per_label=9)
    return kept.with_name("kept.html")
