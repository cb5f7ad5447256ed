"""The notebook of the documentation does in an environment with Jupyter what it says."""

from __future__ import annotations

import base64
import io
import os
from typing import TYPE_CHECKING

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

import pyramidai_mpi
from pyramidai_mpi.testing.launch import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PAGE = REPOSITORY / "docs/notebook.ipynb"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def executed(folder):
    """The notebook after all its cells, run in an empty folder by the Python of these tests."""
    notebook = nbformat.read(PAGE, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
        client.execute()
    return notebook


def outputs_of(notebook, words: str) -> list:
    """What the only code cell that holds these words has shown."""
    (cell,) = (cell for cell in notebook.cells if cell.cell_type == "code" and words in cell.source)
    return cell.outputs


def shown(notebook, words: str) -> dict:
    return outputs_of(notebook, words)[-1]["data"]


def picture(data: dict) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data["image/png"]))))


def test_it_is_stored_without_what_a_run_leaves():
    notebook = nbformat.read(PAGE, as_version=4)
    nbformat.validate(notebook)
    assert all(
        cell.outputs == [] and cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code"
    )


@pytest.mark.mpi
def test_a_result_is_shown_in_its_html_form(executed, folder):
    data = shown(executed, 'analyse("slide.tif", output=')
    result = pyramidai_mpi.open_result(folder / "slide.h5")
    assert data["text/html"] == result._repr_html_()
    assert data["text/plain"] == repr(result)


@pytest.mark.mpi
def test_progress_is_shown_while_it_analyses(executed):
    said = "".join(one.text for one in outputs_of(executed, 'output="slide.h5"') if one.output_type == "stream")
    assert "finding tissue ..." in said


@pytest.mark.mpi
def test_a_heatmap_is_shown_as_a_picture(executed, folder):
    heatmap = pyramidai_mpi.open_result(folder / "slide.h5").heatmap(spacing_um_px=8)
    seen = picture(shown(executed, "heatmap = "))
    assert seen.shape[:2] == heatmap.values.shape
    assert np.array_equal(seen[..., 3] > 0, np.isfinite(heatmap.values))


@pytest.mark.mpi
def test_tiles_are_shown_as_pictures_and_as_a_table(executed, folder):
    level = pyramidai_mpi.open_result(folder / "slide.h5").levels[0]
    side = int(level.tiles["l0_side"][0])
    assert picture(shown(executed, "strip = ")).shape[:2] == (side, 4 * side)
    best = float(level.tiles["probability"].max(axis=0)[1])
    assert f"{best:.6f}" in shown(executed, "to_pandas")["text/html"]


@pytest.mark.mpi
def test_ranks_give_the_same_result_and_errors_are_a_line(executed):
    assert shown(executed, "ranks=2")["text/plain"] == "True"
    said = "".join(one.text for one in outputs_of(executed, "gone.tif") if one.name == "stdout")
    assert said == "gone.tif: no such slide; check the path\n"
