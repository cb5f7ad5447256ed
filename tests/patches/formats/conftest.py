"""Two slides and files of their patches, made once for all tests of formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.patch_files import order_of, write_patches_of
from tests.tiffs import write_slide

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.store.patches.writer import PatchContent

LABELS = ("normal", "tumor", "necrosis")


@dataclass(frozen=True)
class Made:
    """A slide of CAMELYON17's names, and its patches of 96 px around cells of 64, in groups of 50."""

    slide: Path
    labelled: Path
    plain: Path
    bare: Path
    labels: np.ndarray


def labelled(content: PatchContent) -> PatchContent:
    """Every fifth patch unknown, one of necrosis, the others normal and tumor by turns."""
    patches = content.patches.copy()
    patches["label"] = np.arange(len(patches)) % 2
    patches["label"][::5] = -1
    patches["label"][3] = 2
    patches["tumor"] = patches["label"] == 1
    return replace(content, settings=replace(content.settings, labels=json.dumps(LABELS)), patches=patches)


@pytest.fixture(scope="session")
def made(tmp_path_factory, stored_images) -> Made:
    folder = tmp_path_factory.mktemp("patient")
    slide = write_slide(folder / "patient_024_node_4.tif", stored_images, compression="zlib")
    files = [folder / f"{name}.patches.h5" for name in ("labelled", "plain", "bare")]
    write_patches_of(slide, files[0], order_of(group=50), change=labelled)
    write_patches_of(slide, files[1], order_of(group=50))
    write_patches_of(slide, files[2], order_of(group=50, pixels="none"))
    labels = np.arange(192) % 2
    labels[::5], labels[3] = -1, 2
    return Made(slide, *files, labels)
