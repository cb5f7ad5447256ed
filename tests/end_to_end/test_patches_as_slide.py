"""A file of patches given to the commands in its slide's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.view.opening import open_view
from tests.end_to_end.conftest import digest_of, pyramidai

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi

INCOMPLETE = 3
"""Exit code where tiles are unreadable."""


@pytest.fixture(scope="module")
def slide(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("slide") / "patient_024_node_4.tif"
    write_slide(SynthSpec(3000, 2600, seed=11, tumor_share=0.3), path)
    return path


@pytest.fixture(scope="module")
def patches(slide, tmp_path_factory) -> Path:
    """Patches around its tissue, alone in a folder."""
    folder = tmp_path_factory.mktemp("patches")
    options = ["--size", "448", "--stride", "224", "--mpp", "0.25", "-o", folder]
    assert pyramidai("patches", "extract", slide, *options).returncode == 0
    return folder / "patient_024_node_4.patches.h5"


@pytest.fixture(scope="module")
def result(patches, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("result") / "patient_024_node_4.h5"
    assert pyramidai("run", patches.parent, "--results-dir", path.parent, ranks=2).returncode == INCOMPLETE
    return path


def rows(group: h5py.Group) -> dict[tuple[int, ...], tuple[float, ...]]:
    return dict(zip(map(tuple, group["index"][...].tolist()), group["probability"][...].tolist(), strict=True))


def test_a_run_gives_what_is_wholly_kept_the_scores_of_the_slide(slide, patches, result, tmp_path):
    one, of_slide = tmp_path / "one.h5", tmp_path / "slide.h5"
    assert pyramidai(patches, "-o", one).returncode == INCOMPLETE
    assert digest_of(one) == digest_of(result)
    assert pyramidai(slide, "-o", of_slide, "--mode", "reference").returncode == 0
    with h5py.File(result) as file, h5py.File(of_slide) as other:
        assert file["slide"].attrs["name"] == slide.name
        assert file["execution"].attrs["reader"] == "patches"
        found, expected = rows(file["levels/0"]), rows(other["levels/0"])
        sound = {tile: scores for tile, scores in found.items() if not np.isnan(scores).any()}
        assert len(sound) > 40
        assert sound.items() <= expected.items()
        assert {reason.partition(b" is not kept in ")[2] for reason in file["failed"]["reason"]} == {
            patches.name.encode()
        }


def test_tiles_are_exported_and_tissue_is_found_without_the_slide(slide, patches, result, tmp_path):
    made = tmp_path / "tiles"
    assert pyramidai("export", result, "--tiles", made, "--slide", patches, "--top", "3").returncode == 0
    import openslide

    with openslide.OpenSlide(slide) as original:
        names = sorted(path.name for path in made.glob("*.png"))
        assert len(names) == 3
        for name in names:
            x, y = (int(part[1:]) for part in name.removesuffix(".png").split("_")[2:])
            expected = np.asarray(original.read_region((x, y), 0, (224, 224)))[..., :3]
            np.testing.assert_array_equal(np.asarray(Image.open(made / name)), expected)
    found = pyramidai("tissue", patches)
    assert found.returncode == 0
    assert "mm² of tissue" in found.stdout


def test_a_view_finds_the_file_beside_the_result(patches, result):
    link = result.with_name(patches.name)
    link.symlink_to(patches)
    with open_view(result) as view:
        assert view.note == ""
        assert view.tiles.readers is not None
    link.unlink()
    with open_view(result) as view:
        assert "is not beside its result" in view.note


def test_a_file_of_coordinates_alone_is_refused_in_a_line(slide, tmp_path):
    options = ["--size", "224", "--mpp", "0.25", "--pixels", "none", "-o", tmp_path]
    assert pyramidai("patches", "extract", slide, *options).returncode == 0
    done = pyramidai("run", tmp_path / "patient_024_node_4.patches.h5", "-o", tmp_path / "out.h5")
    assert done.returncode == 65
    assert "keeps coordinates alone, and none of the slide's own tiles" in done.stderr.splitlines()[-1]
