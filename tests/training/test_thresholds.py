"""Thresholds and retention, against walking the tree tile by tile."""

import numpy as np
import pytest

from pyramidai_mpi.training.thresholds import LevelGrid, choose_thresholds, measure_retention


def slide(seed):
    """A random slide of 3 x 4 roots: tumour is likely where the probability is high."""
    rng = np.random.default_rng(seed)
    grids = []
    for level in range(3):
        shape = (3 << (2 - level), 4 << (2 - level))
        probability = rng.random(shape).astype(np.float32)
        positive = rng.random(shape) < probability
        exists = rng.random(shape) < 0.9
        grids.append(LevelGrid(exists, probability * exists, positive & exists))
    return grids


def walk(grids, thresholds):
    """Tiles analysed at each level and true positives found, one tile at a time."""
    analysed, found = [], set()

    def visit(level, row, col):
        if not grids[level].exists[row, col]:
            return
        analysed.append((level, row, col))
        if grids[level].probability[row, col] < thresholds[level]:
            return
        if level == 0:
            if grids[0].positive[row, col]:
                found.add((row, col))
            return
        for j in range(2):
            for i in range(2):
                visit(level - 1, 2 * row + j, 2 * col + i)

    for row, col in np.ndindex(grids[2].exists.shape):
        visit(2, row, col)
    return analysed, found


@pytest.mark.parametrize("seed", range(4))
def test_retention_is_what_walking_the_tree_finds(seed):
    grids, thresholds = slide(seed), [0.5, 0.3, 0.4]
    analysed, found = walk(grids, thresholds)
    everything, reference = walk(grids, [0.5, 0.0, 0.0])
    retention = measure_retention([grids], thresholds)
    assert retention.analysed == len(analysed)
    assert retention.kept == len(found)
    assert retention.true_positives == len(reference)
    assert retention.reference == sum(level == 0 for level, _, _ in everything)
    assert retention.rate == len(found) / len(reference)


def test_retention_adds_up_over_slides():
    one, other = slide(1), slide(2)
    thresholds = [0.5, 0.3, 0.4]
    both = measure_retention([one, other], thresholds)
    parts = [measure_retention([grids], thresholds) for grids in (one, other)]
    assert both.kept == sum(part.kept for part in parts)
    assert both.analysed == sum(part.analysed for part in parts)


@pytest.mark.parametrize("keep", [0.9, 0.985])
def test_each_level_alone_keeps_the_share_asked_for(keep):
    slides = [slide(seed) for seed in range(6)]
    thresholds = choose_thresholds(slides, keep)
    for level in (1, 2):
        alone = [thresholds[0], 0.0, 0.0]
        alone[level] = thresholds[level]
        assert measure_retention(slides, alone).rate >= keep - 0.002


def test_keeping_more_never_raises_a_threshold():
    slides = [slide(seed) for seed in range(6)]
    strict, loose = choose_thresholds(slides, 0.99), choose_thresholds(slides, 0.8)
    assert strict[0] == loose[0]
    assert strict[1] <= loose[1]
    assert strict[2] <= loose[2]
