"""Outlines of the nuclei are where nuclei were painted; without the cue their look knows nothing of the tumour."""

import json
from dataclasses import replace

import numpy as np
import pytest
from skimage.draw import polygon

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.synth.plan import draw_plan
from pyramidai_mpi.synth.polygons import Outlines
from pyramidai_mpi.synth.render import Painter
from pyramidai_mpi.synth.spec import BLOCK
from pyramidai_mpi.synth.sprites import Nucleus

SIDE = 3 * BLOCK
SPEC = SynthSpec(SIDE, SIDE, seed=11, tumor_share=0.4)
BLOCKS = [(row, col) for row in range(3) for col in range(3)]


def outlined(plan):
    painter = Painter(plan)
    return [one for block in BLOCKS for one in painter.nuclei(*block)]


@pytest.fixture(scope="module")
def plan():
    return draw_plan(SPEC)


@pytest.fixture(scope="module")
def nuclei(plan):
    return outlined(plan)


def area(outline):
    x, y = outline.T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2 * SPEC.mpp**2


def test_outlines_hold_the_pixels_that_nuclei_have_darkened(monkeypatch, plan, nuclei):
    inked = Painter(plan).paint(1, 1).astype(int)
    monkeypatch.setattr(Painter, "_stamp_nuclei", lambda *_: None)
    darkened = (Painter(plan).paint(1, 1) - inked).max(axis=2) > 12
    inside = np.zeros((BLOCK, BLOCK), bool)
    for _, outline in nuclei:
        x, y = (outline - 0.5).T  # middles of pixels
        inside[polygon(y - BLOCK, x - BLOCK, inside.shape)] = True
    assert 0.02 < inside.mean() < 0.5
    assert (inside & darkened).sum() / (inside | darkened).sum() > 0.9


def test_tumour_nuclei_lie_in_tumour_and_are_larger(plan, nuclei):
    mask = Outlines(plan.regions).mask(0, 0, 1, (SIDE, SIDE))
    of = {kind: [outline for found, outline in nuclei if found is kind] for kind in Nucleus}
    middles = np.array([outline.mean(axis=0) for outline in of[Nucleus.TUMOR]]).astype(int)
    assert len(middles) > 100
    # nests are drawn on a grid of 8 pixels, so that a nucleus at the border may lie 4 beyond it
    assert mask[middles[:, 1].clip(0, SIDE - 1), middles[:, 0].clip(0, SIDE - 1)].mean() > 0.95
    others = [outline for kind in Nucleus if kind is not Nucleus.TUMOR for outline in of[kind]]
    assert np.mean([area(one) for one in of[Nucleus.TUMOR]]) > 1.5 * np.mean([area(one) for one in others])


def test_without_the_cue_nuclei_stay_where_they_are_and_their_size_says_nothing(plan, nuclei):
    others = outlined(replace(plan, spec=replace(SPEC, nuclear_cue=False)))
    assert [kind for kind, _ in others] == [kind for kind, _ in nuclei]
    distances = [np.linalg.norm(a.mean(0) - b.mean(0)) for (_, a), (_, b) in zip(others, nuclei, strict=True)]
    assert max(distances) < 6
    is_tumor = np.array([kind is Nucleus.TUMOR for kind, _ in others])
    areas = np.array([area(outline) for _, outline in others])
    assert areas[is_tumor].mean() == pytest.approx(areas[~is_tumor].mean(), rel=0.15)
    assert areas.std() > 0.3 * areas.mean()


def test_the_file_lists_them_and_the_slide_is_the_same_with_and_without_it(tmp_path):
    spec = SynthSpec(700, 600, seed=3, tumor_share=0.3)
    plain = write_slide(spec, tmp_path / "plain.tif")
    slide = write_slide(spec, tmp_path / "slide.tif", nuclei=True)
    assert plain.nuclei_path is None
    assert not (tmp_path / "plain.nuclei.geojson").exists()
    assert slide.path.read_bytes() == plain.path.read_bytes()
    features = json.loads(slide.nuclei_path.read_text())["features"]
    assert len(features) == slide.n_nuclei > 20
    names = {one["properties"]["classification"]["name"] for one in features}
    assert names <= {f"{kind.name.lower()} nucleus" for kind in Nucleus}
    rings = [np.array(one["geometry"]["coordinates"][0]) for one in features]
    assert all(len(ring) == 25 and (ring[0] == ring[-1]).all() for ring in rings)
    with pytest.raises(OutputExistsError, match=r"slide\.nuclei\.geojson"):
        slide.path.unlink()
        slide.truth_path.unlink()
        write_slide(spec, tmp_path / "slide.tif", nuclei=True)


def test_a_slide_without_tissue_has_a_file_without_nuclei(tmp_path):
    slide = write_slide(SynthSpec(64, 64, seed=3, tumor_share=0), tmp_path / "slide.tif", nuclei=True)
    assert slide.n_nuclei == len(json.loads(slide.nuclei_path.read_text())["features"])
