"""A tile is positive when enough of its tissue is tumour: as shapely's areas say, at every level."""

from __future__ import annotations

import numpy as np
import pytest
import shapely

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.types import Decision, Mode
from pyramidai_mpi.truth.geojson import outlines_of_collection, read_json
from pyramidai_mpi.truth.geometry import tumor_area
from pyramidai_mpi.truth.labelled_tree import PASS_THROUGH
from pyramidai_mpi.truth.labels import label_levels, label_result, read_labelled
from pyramidai_mpi.truth.outlines import ClassNames, OutlineFile
from tests.results import result_of, write_file
from tests.trees import MASK_PER_TILE, TILE, rule_of
from tests.truth.files import asap, feature, geojson

CELL = TILE // MASK_PER_TILE


@pytest.fixture
def blob():
    return shapely.Point(700, 560).buffer(333.3, quad_segs=8).union(shapely.box(100, 100, 300, 250))


def outline_file(path, area):
    """As QuPath writes it: counted from the corner of the bounds that `result_of` gives the slide."""
    corner = np.array(result_of().slide.l0_bounds)
    assert corner.all()
    return geojson(path, *(feature([(np.array(part.exterior.coords)[:-1] - corner).tolist()]) for part in area.geoms))


def result_file(folder, mode=Mode.EXHAUSTIVE, **changes):
    result = result_of(mode=mode, **changes)
    attributes = {**result.execution.attributes, "mode": str(mode), "min_tissue": 0.05}
    execution = type(result.execution)(attributes, result.execution.ranks)
    return write_file(folder / "slide.h5", result_of(mode=mode, execution=execution, **changes)), result


def shares_by_shapely(mask, area, level, index):
    """Tumour's share of the tissue of each tile, from areas of intersections alone."""
    cells = [[shapely.box(c * CELL, r * CELL, (c + 1) * CELL, (r + 1) * CELL) for c in range(45)] for r in range(35)]
    shares = []
    for col, row in index:
        side = MASK_PER_TILE * 2**level
        inside = [
            cells[r][c]
            for r in range(row * side, min((row + 1) * side, 35))
            for c in range(col * side, min((col + 1) * side, 45))
            if mask[r, c]
        ]
        shares.append(area.intersection(shapely.union_all(inside)).area / (len(inside) * CELL**2))
    return np.array(shares)


@pytest.mark.parametrize("min_share", [0.5, 0.25, 1.0])
def test_labels_agree_with_areas_of_intersections(tmp_path, blob, min_share) -> None:
    path, result = result_file(tmp_path)
    tree = label_result(path, outline_file(tmp_path / "slide.geojson", blob), min_share=min_share)
    checked = 0
    for n, level in enumerate(tree.levels):
        share = shares_by_shapely(result.tissue.mask, blob, n, level.index.astype(int))
        clear = np.abs(share - min_share) > 1e-5  # coverage is in millionths of a cell
        clear |= share > 1 - 1e-9
        assert (level.positive == (share >= min_share - 1e-9))[clear].all()
        assert 0 < level.positive.sum() < len(level) or n == 2
        checked += int(clear.sum())
    assert checked > 0.95 * sum(map(len, tree.levels))


def test_a_tile_whose_tissue_is_half_tumour_is_positive_at_every_level() -> None:
    mask = np.ones((16, 16), bool)
    mask[:, 8:] = False
    rule = rule_of(mask)
    covered = np.zeros((16, 16), np.int32)
    covered[:4, :8] = 2**20  # half of the upper left lowest-level tile's tissue
    every = [np.array([[c, r] for r in range(n) for c in range(n)]) for n in (8, 4, 2)]
    labels = label_levels(rule.tissue, covered, every, 0.5)
    assert labels[2].tolist() == [True, False, False, False]
    assert (every[1][labels[1]] == [[0, 0], [1, 0]]).all()
    assert labels[0].sum() == 2 * 4
    covered[3, 7] -= 1
    assert not label_levels(rule.tissue, covered, every, 0.5)[2].any()


def test_tumour_on_glass_counts_for_nothing() -> None:
    mask = np.zeros((8, 8), bool)
    mask[0, 0] = True
    covered = np.full((8, 8), 2**20, np.int32)
    covered[0, 0] = 0
    labels = label_levels(rule_of(mask).tissue, covered, [np.array([[0, 0]])] * 3, 0.5)
    assert not any(level.any() for level in labels)


def test_scores_are_the_positive_classs_and_unreadable_tiles_have_none(tmp_path, blob) -> None:
    path, result = result_file(tmp_path)
    labelled = read_labelled(path, outline_file(tmp_path / "slide.geojson", blob))
    for n, level in enumerate(labelled.levels):
        table = result.tree.levels[n]
        readable = table.decision != Decision.UNREADABLE
        assert np.isnan(level.score[~readable]).all()
        assert (level.score[readable] == table.probability[readable, 1]).all()
        assert (level.parent == table.parent).all()
        assert (level.decision == table.decision).all()
    assert labelled.thresholds == (0.5, 0.4, 0.3)
    assert (labelled.slide, labelled.l0_size, labelled.mpp) == ("slide.tif", result.slide.l0_size, 0.2528)
    assert (labelled.rule.tissue.mask == result.tissue.mask).all()


def test_an_exhaustive_run_holds_exactly_the_reference_tiles(tmp_path) -> None:
    path, result = result_file(tmp_path)
    (tmp_path / "negative.txt").write_text("slide")
    labelled = read_labelled(path, tmp_path)
    assert (labelled.reference_index == labelled.levels[0].index).all()
    cost = labelled.tree().cost_of([0.5, PASS_THROUGH, PASS_THROUGH])
    assert cost.n_analysed == result.tree.n_tiles
    assert cost.true_positives == 0


@pytest.mark.parametrize("mode", [Mode.PYRAMID, Mode.REFERENCE])
def test_other_runs_are_labelled_too_but_are_nothing_to_tune_on(tmp_path, mode, blob) -> None:
    (tmp_path / "all").mkdir()
    exhaustive, _ = result_file(tmp_path / "all")
    path, _ = result_file(tmp_path, mode)
    truth = outline_file(tmp_path / "slide.geojson", blob)
    whole, part = read_labelled(exhaustive, truth), read_labelled(path, truth)
    for full, some in zip(whole.levels, part.levels, strict=True):
        label = dict(zip(map(tuple, full.index.tolist()), full.positive.tolist(), strict=True))
        assert [label[tuple(tile)] for tile in some.index.tolist()] == some.positive.tolist()
    assert (part.reference_index == whole.reference_index).all()
    with pytest.raises(InputError, match=f"{mode} run.*--mode exhaustive"):
        part.tree()


def test_outlines_beside_the_tissue_are_doubted(tmp_path) -> None:
    mask = np.zeros((35, 45), bool)
    mask[:, :20] = True
    path, _ = result_file(tmp_path, mask=mask)
    corners = [[1000, 100], [1300, 100], [1300, 400], [1000, 400]]
    labelled = read_labelled(path, asap(tmp_path / "slide.xml", [("_0", corners)]))
    assert any("only 0 % of the tumour area holds tissue" in note for note in labelled.notes)


@pytest.mark.real
def test_every_outline_of_camelyon16_can_be_used(real_slides) -> None:
    path = real_slides.parent / "camelyon16" / "train_tumor_polygons.json.gz"
    document = read_json(path)
    assert len(document) == 110
    crossing = [
        outline
        for slide in document
        for outline in outlines_of_collection(path, document, slide).outlines
        if len(outline.shell) < 4 or not shapely.Polygon(outline.shell).is_valid
    ]
    assert len(crossing) > 370
    notes = tumor_area(path, OutlineFile(tuple(crossing)), ClassNames(("_0", "_2"), ()), (250_000, 250_000)).notes
    assert any("self-crossing outlines were repaired" in note for note in notes)
