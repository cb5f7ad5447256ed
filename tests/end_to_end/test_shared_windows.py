"""Blocks of windows in one pass of a network: the scores of windows by themselves, or refused, or measured."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.synth import SynthSpec, write_slide
from pyramidai_mpi.testing.launch import kill, started
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.strided import SLOWLY, Made, map_in

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def small_slide(tmp_path_factory) -> Path:
    """A slide of fewer windows than that of the other tests."""
    path = tmp_path_factory.mktemp("small") / "small.tif"
    write_slide(SynthSpec(1100, 900, seed=2, tumor_share=0.2), path)
    return path


@pytest.fixture(scope="module")
def made(small_slide, tmp_path_factory) -> Made:
    """Its results, each made when it is first asked for."""
    return Made(tmp_path_factory.mktemp("made"), small_slide)


SHARED = ("--model", "small-valid", "--stride", "28", "--mode", "reference")


def test_a_pass_for_a_block_gives_the_scores_of_windows_by_themselves(made) -> None:
    alone, together, below = (
        made.run(*SHARED),
        made.run(*SHARED, "--stride-mode", "shared"),
        made.run(*SHARED[:4], "--stride-mode", "shared"),
    )
    expected, found, zoomed = (map_in(result) for result in (alone, together, below))
    np.testing.assert_array_equal(np.isfinite(found.score), np.isfinite(expected.score))
    assert np.nanmax(np.abs(found.score - expected.score)) <= 1e-5
    with open_result(together) as file, open_result(below) as other:  # blocks of two sizes
        assert file["levels/0"].attrs["block_cells"] > other["levels/0"].attrs["block_cells"]
    both = (zoomed.stride == 28) & np.isfinite(expected.score)
    assert both.any()
    assert np.abs(zoomed.score[both] - expected.score[both]).max() <= 1e-5
    assert digest_of(together) != digest_of(alone)


def test_networks_whose_answers_would_change_are_refused_or_the_change_is_measured(made, small_slide, tmp_path) -> None:
    options = ("--stride", "28", "--mode", "reference", "--stride-mode", "shared")
    refused = pyramidai(small_slide, "-o", tmp_path / "out.h5", *options)
    assert refused.returncode == 64
    assert "level0.onnx: its windows cannot share one pass: pads its maps" in refused.stderr
    assert not (tmp_path / "out.h5").exists()
    done = pyramidai(small_slide, "-o", tmp_path / "out.h5", *options, "--allow-approximate")
    assert done.returncode == 0
    with open_result(tmp_path / "out.h5") as file:
        said = dict(file["execution"].attrs)
    assert f"approximate: of {said['approximate_windows']} windows" in done.stderr
    found, expected = (map_in(result) for result in (tmp_path / "out.h5", made.run(*SHARED[2:])))
    known = np.isfinite(found.score) & np.isfinite(expected.score)
    difference = np.abs(found.score - expected.score)[known]
    assert 60 < said["approximate_windows"] < len(difference)
    # what was seen of some windows is so of all, as far as a sample of that size can say
    assert said["approximate_mean"] == pytest.approx(difference.mean(), rel=0.5)
    assert said["approximate_95"] == pytest.approx(np.quantile(difference, 0.95), rel=0.6)
    assert said["approximate_largest"] <= difference.max()
    changed = ((found.score >= found.threshold) != (expected.score >= expected.threshold))[known].mean()
    assert said["approximate_decisions"] == pytest.approx(changed, abs=0.05)


@pytest.mark.mpi
@pytest.mark.parametrize("mode", ["shared", "adaptive-shared"])
def test_shared_passes_give_one_digest_on_any_ranks_and_after_a_kill(mode, made, small_slide, tmp_path) -> None:
    options = (*SHARED, "--stride-mode", mode)
    expected = digest_of(made.run(*options))
    assert pyramidai(small_slide, "-o", tmp_path / "three.h5", *options, ranks=3).returncode == 0
    assert digest_of(tmp_path / "three.h5") == expected
    result, journal = tmp_path / "killed.h5", tmp_path / "killed.h5.journal"
    with started(None, [str(SLOWLY), "0.5", "run", str(small_slide), "-o", str(result), *options]) as job:
        assert job.wait_until(lambda: sum(path.stat().st_size for path in journal.glob("*.tiles")) > 1000)
        kill(job.launcher.pid, signal.SIGKILL)
        assert job.wait() != 0
    assert pyramidai(small_slide, "-o", result, *options, "--resume", ranks=2).returncode == 0
    assert digest_of(result) == expected


def test_passes_inside_steps_keep_what_all_windows_say(made) -> None:
    steps, full = (map_in(made.run(*SHARED, "--stride-mode", mode)) for mode in ("adaptive-shared", "shared"))
    known = np.isfinite(steps.score) & np.isfinite(full.score)
    positive, expected = (one.score[known] >= one.threshold for one in (steps, full))
    assert expected.any()
    assert (positive == expected).mean() > 0.9
    fine = known & (steps.stride == 28)
    assert np.abs(steps.score[fine] - full.score[fine]).max() <= 1e-5


def test_what_is_measured_of_an_approximation_is_of_windows_that_shared_a_pass(small_slide, tmp_path) -> None:
    options = ("--stride", "56", "--mode", "reference", "--stride-mode", "adaptive-shared", "--allow-approximate")
    assert pyramidai(small_slide, "-o", tmp_path / "out.h5", *options).returncode == 0
    with open_result(tmp_path / "out.h5") as file:
        n_fine, n_coarse = (len(file[f"levels/{level}/index"]) for level in (0, 1))
        n_compared = file["execution"].attrs["approximate_windows"]
    assert n_fine
    assert n_coarse  # its windows are fewer than a pass is worth
    assert 0 < n_compared <= 32 * n_fine
