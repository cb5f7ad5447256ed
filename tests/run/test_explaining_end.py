"""What is said of explanations at the end: how their probabilities compare with the result's, and what failed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.run.explaining_end import end_of, found_against
from pyramidai_mpi.run.explaining_tiles import ChosenTiles, ResultSays
from pyramidai_mpi.store.results.result import Execution
from tests.explained import explanation_of

RESULT = ResultSays("out.h5", "ab" * 32, 0.25, "mpp", "", "openvino, float32, some processor")
SETTINGS = RunSettings.of(Path("slide.tif"), Path("model"), Path("slide.explained.h5"))


def said_of(explanation, known):
    chosen = ChosenTiles(explanation.tiles.index.astype(np.int64), known=known, result=RESULT)
    attributes = found_against(chosen, explanation.tiles)
    explanation = replace(explanation, execution=Execution(attributes, explanation.execution.ranks))
    return attributes, end_of(SETTINGS, explanation, chosen)


def test_one_bit_is_a_difference_and_is_told():
    explanation = explanation_of()
    probability = explanation.tiles.probability
    attributes, end = said_of(explanation, probability.copy())
    n = int(np.isfinite(probability).all(axis=1).sum())
    assert (attributes["result_n_compared"], attributes["result_n_differing"]) == (n, 0)
    assert f"probabilities of {n} tiles as in out.h5, to the bit" in end.line
    changed = probability.copy()
    changed[0, 1] = np.nextafter(changed[0, 1], np.float32(1))
    attributes, end = said_of(explanation, changed)
    assert attributes["result_n_differing"] == 1
    assert attributes["result_max_difference"] == float(changed[0, 1] - probability[0, 1])
    assert f"probabilities of 1 of {n} tiles differ from out.h5" in end.line
    assert "computed by openvino, float32, some processor there" in end.line


def test_tiles_that_the_result_does_not_have_are_compared_with_nothing():
    explanation = explanation_of()
    attributes, end = said_of(explanation, np.full_like(explanation.tiles.probability, np.nan))
    assert attributes["result_n_compared"] == 0
    assert "probabilities" not in end.line
    assert found_against(ChosenTiles(np.empty((0, 2), np.int64)), explanation.tiles) == {}
    assert end.exit_code == (ExitCode.TILES_FAILED if len(explanation.failed) else ExitCode.OK)
