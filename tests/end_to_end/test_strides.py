"""Windows at a stride: their scores, whatever the ranks, kills and parts; checked with the libraries alone."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.base.types import WindowState, index_of
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.results.dense import read_block_rule
from pyramidai_mpi.store.results.reader import open_result
from pyramidai_mpi.testing.launch import kill, started
from tests.end_to_end.conftest import digest_of, pyramidai
from tests.end_to_end.strided import SLOWLY, STEPS, UNIFORM, WINDOW, map_in, scored, windows_in
from tests.end_to_end.test_damage import tissue_slide, wipe_tile
from tests.packages import write_package

if TYPE_CHECKING:
    import h5py


@pytest.mark.parametrize("stride", UNIFORM)
def test_a_few_lines_give_the_same_scores(stride, sized_slides, model, tmp_path) -> None:
    slide, result = sized_slides[UNIFORM[stride]], tmp_path / "out.h5"
    assert pyramidai(slide, "-o", result, "--stride", str(stride), "--mode", "reference").returncode == 0
    corners, scores = windows_in(result)
    assert (corners % stride == 0).all()
    assert len(np.unique(corners, axis=0)) == len(corners)
    chosen = np.random.default_rng(stride).permutation(len(corners))[:60]
    assert len(chosen) > 20
    assert np.abs(scored(slide, corners[chosen], model) - scores[chosen]).max() <= 1e-5


def test_also_the_windows_of_strides_in_steps(made, small_slide, model) -> None:
    result = made.run(*STEPS)
    corners, scores = windows_in(result)
    chosen = np.random.default_rng(1).permutation(len(corners))[:40]
    assert np.abs(scored(small_slide, corners[chosen], model) - scores[chosen]).max() <= 1e-5


def test_a_stride_of_the_window_is_the_run_without(made) -> None:
    plain, strided = made.run("--mode", "reference"), made.run("--mode", "reference", "--stride", str(WINDOW))
    assert digest_of(plain) == digest_of(strided)
    half = made.run("--mode", "reference", "--overlap", "0.5")
    assert digest_of(half) == digest_of(made.run("--mode", "reference", "--stride", "112"))


def test_windows_exist_in_every_tile_with_tissue_and_coarser_strides_are_among_finer_ones_to_the_bit(made) -> None:
    fine, coarse, tiles = (made.run("--mode", "reference", "--stride", str(stride)) for stride in (56, 112, 224))
    corners, scores = windows_in(fine)
    of = dict(zip(map(tuple, corners.tolist()), scores.tolist(), strict=True))
    for other in (coarse, tiles):
        for corner, score in zip(*windows_in(other), strict=True):
            # of a window of which only the rim lies on the slide, the finer cell may lie outside
            if tuple(corner.tolist()) in of:
                assert of[tuple(corner.tolist())] == score
    assert len(windows_in(coarse)[0]) > 50
    whole, part = map_in(fine).subsample(2), map_in(coarse)
    both = np.isfinite(whole.score) & np.isfinite(part.score)
    assert both.sum() >= 0.9 * np.isfinite(part.score).sum() > 0
    np.testing.assert_array_equal(whole.score[both], part.score[both])
    with open_result(tiles) as file:
        n_tiles = len(file["levels/0/index"])
    assert len(corners) <= n_tiles * (WINDOW // 56) ** 2


def test_below_the_pyramid_windows_lie_in_the_tiles_that_are_zoomed_into(made) -> None:
    result = made.run("--stride", "56")
    with open_result(result) as file:
        tiles, blocks = file["levels/1"], file["levels/0"]
        zoomed = tiles["index"][...][tiles["decision"][...] == 1]
        np.testing.assert_array_equal(blocks["index"][...], zoomed)  # a block has the side of a tile
        assert blocks.attrs["block_cells"] == 4
        assert (tiles.attrs["network"], blocks.attrs["network"]) == (0, 0)
    fine, full = map_in(result), map_in(made.run("--mode", "reference", "--stride", "56"))
    looked = fine.stride == 56
    assert 0 < looked.sum() < np.isfinite(full.score).sum()
    np.testing.assert_array_equal(fine.score[looked], full.score[looked])


def test_strides_in_steps_leave_out_what_leaves_no_doubt(made) -> None:
    steps, full = map_in(made.run(*STEPS)), map_in(made.run("--mode", "reference", "--stride", "28"))
    refined = steps.stride == 28
    both = refined & np.isfinite(full.score)
    np.testing.assert_array_equal(steps.score[both], full.score[both])
    known = np.isfinite(steps.score) & np.isfinite(full.score)
    positive, expected = (one.score[known] >= one.threshold for one in (steps, full))
    assert (positive & expected).sum() / (positive | expected).sum() > 0.85
    assert expected.any()
    with open_result(made.run(*STEPS)) as file:
        looked = sum(
            int((file[f"levels/{n}/state"][...] == WindowState.LOOKED).sum()) for n in range(len(file["levels"]))
        )
    assert looked < 0.8 * np.isfinite(full.score).sum()


def cells_at(file: h5py.File, level: int) -> dict[tuple[int, int], tuple[float, int]]:
    """Score and state of each cell of a level, by row and column."""
    group = file[f"levels/{level}"]
    block, first = int(group.attrs["block_cells"]), int(group.attrs["ring_before"])
    return {
        (int(row) * block + down, int(col) * block + right): (
            float(score[first + down, first + right]),
            int(state[first + down, first + right]),
        )
        for (col, row), score, state in zip(group["index"], group["score"], group["state"], strict=True)
        for down in range(block)
        for right in range(block)
    }


def test_cells_are_refined_where_a_loop_over_cells_finds_doubt_and_nowhere_else(made) -> None:
    seen = {WindowState.LOOKED, WindowState.SAME}
    with open_result(made.run(*STEPS)) as file:
        blocks = read_block_rule(file)
        assert blocks is not None
        assert blocks.band is not None
        band, top = blocks.band, len(file["levels"]) - 1
        for level in range(top, 0, -1):
            side, times = (int(file[f"levels/{level}"].attrs[name]) for name in ("block_cells", "cell_px"))
            times //= int(file[f"levels/{level - 1}"].attrs["cell_px"])
            ring = blocks.ring(level)
            steps = range(-ring.before, ring.after + 1)
            cells, finer = cells_at(file, level), cells_at(file, level - 1)
            refined = {(row // times, col // times) for (row, col), (_, state) in finer.items() if state in seen}
            n_compared = n_refined = 0
            for (row, col), (own, state) in cells.items():
                around = [(row + down, col + right) for down in steps for right in steps]
                # of a ring below the first blocks, a block knows what the coarser cells say, not what others find out
                if state not in seen or (
                    level < top and any((y // side, x // side) != (row // side, col // side) for y, x in around)
                ):
                    continue
                # a ring that nobody has for its own cells is not in the file's blocks
                if level == top and any(place not in cells for place in around):
                    continue
                scores = [cells[place][0] for place in around if place in cells]
                doubt = band.low <= own <= band.high or any(abs(other - own) > band.step for other in scores)
                assert doubt == ((row, col) in refined)
                n_compared, n_refined = n_compared + 1, n_refined + doubt
            assert n_compared > n_refined > 0


@pytest.mark.mpi
@pytest.mark.parametrize("options", [("--stride", "56"), STEPS], ids=["below the pyramid", "in steps"])
@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_the_digest_is_that_of_one_rank(options, ranks, made, small_slide, tmp_path) -> None:
    assert (
        pyramidai(small_slide, "-o", tmp_path / "out.h5", *options, "--seed", str(ranks), ranks=ranks).returncode == 0
    )
    assert digest_of(tmp_path / "out.h5") == digest_of(made.run(*options))


@pytest.mark.mpi
def test_also_on_twelve_ranks_of_a_cohort(made, sized_slides, tmp_path) -> None:
    many = pyramidai(*sized_slides.values(), "--results-dir", tmp_path, *STEPS, "--no-progress", ranks=12)
    assert many.returncode == 0
    assert digest_of(tmp_path / "1500.h5") == digest_of(made.run(*STEPS))


@pytest.mark.mpi
@pytest.mark.parametrize("options", [("--stride", "56", "--mode", "reference"), STEPS], ids=["uniform", "in steps"])
def test_a_killed_run_goes_on(options, made, small_slide, tmp_path) -> None:
    result = tmp_path / "out.h5"
    journal = tmp_path / "out.h5.journal"
    words = [str(SLOWLY), "0.2", "run", str(small_slide), "-o", str(result), *options]
    with started(2, words) as job:
        assert job.wait_until(lambda: sum(path.stat().st_size for path in journal.glob("*.tiles")) > 3000)
        for pid in job.ranks().values():
            kill(pid, signal.SIGKILL)
        assert job.wait() != 0
    assert not result.exists()
    assert pyramidai(small_slide, "-o", result, *options, "--resume", ranks=3).returncode == 0
    assert digest_of(result) == digest_of(made.run(*options))
    with open_result(result) as file:
        assert file["execution"].attrs["tiles_from_journal"] > 0


@pytest.mark.parametrize("options", [("--stride", "56"), STEPS], ids=["below the pyramid", "in steps"])
def test_parts_join_to_the_run_in_one_piece(options, made, small_slide, tmp_path) -> None:
    for number in (1, 2):
        assert pyramidai(small_slide, "-o", tmp_path / "out.h5", *options, "--part", f"{number}/2").returncode == 0
    assert pyramidai("merge", *sorted(tmp_path.glob("out.part-*.h5"))).returncode == 0
    assert digest_of(tmp_path / "out.h5") == digest_of(made.run(*options))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--stride", "0"], "--stride 0: expected a number of pixels from 1"),
        (["--stride", "225"], "--stride 225: leaves out pixels between windows of 224; expected 1 to 224"),
        (["--stride", "16", "--overlap", "0.5"], "say the same in two ways"),
        (["--overlap", "1"], "--overlap 1: expected a share of the window's side in [0, 1)"),
        (["--stride-mode", "adaptive"], "give --stride too"),
        (["--stride", "113", "--stride-mode", "adaptive"], "no coarser stride is left; leave it out"),
        (["--stride", "224", "--stride-mode", "shared"], "share too little"),
        (["--stride", "16", "--features"], "--features: are not kept of overlapping windows"),
        (["--stride", "16", "--stride-mode", "adaptive", "--mode", "exhaustive"], "looks at everything"),
        (["--stride", "16", "--allow-approximate"], "expected with --stride-mode shared or adaptive-shared"),
    ],
)
def test_what_does_not_fit_is_one_line(options, said, small_slide, tmp_path) -> None:
    done = pyramidai(small_slide, "-o", tmp_path / "out.h5", *options)
    assert done.returncode == 64
    assert said in done.stderr
    assert not (tmp_path / "out.h5").exists()


def test_another_stride_is_another_run(made, small_slide) -> None:
    result = made.run("--mode", "reference", "--stride", "112")
    done = pyramidai(small_slide, "-o", result, "--mode", "reference", "--stride", "56", "--resume")
    assert done.returncode == 65
    assert "--stride (112, now 56)" in done.stderr
    assert pyramidai(small_slide, "-o", result, "--mode", "reference", "--stride", "112", "--resume").returncode == 0


def test_a_run_without_a_stride_is_another_one_also_where_levels_are_as_many(made, small_slide) -> None:
    result = made.run("--mode", "reference", "--stride", "150")
    done = pyramidai(small_slide, "-o", result, "--mode", "reference", "--resume")
    assert done.returncode == 65
    assert "--stride (150, now none)" in done.stderr


def test_joined_parts_say_how_approximate_they_are(small_slide, tmp_path) -> None:
    options = ("--stride", "56", "--mode", "reference", "--stride-mode", "shared", "--allow-approximate")
    for part in ("1/2", "2/2"):
        assert pyramidai(small_slide, "-o", tmp_path / "out.h5", *options, "--part", part).returncode == 0
    assert pyramidai(small_slide, "-o", tmp_path / "whole.h5", *options).returncode == 0
    done = pyramidai("merge", *tmp_path.glob("out.part-*"))
    assert done.returncode == 0
    with open_result(tmp_path / "out.h5") as joined, open_result(tmp_path / "whole.h5") as whole:
        found, expected = dict(joined["execution"].attrs), dict(whole["execution"].attrs)
    for name in ("windows", "mean", "largest", "decisions"):
        assert found[f"approximate_{name}"] == pytest.approx(expected[f"approximate_{name}"])
    assert found["approximate_95"] >= expected["approximate_95"]
    n_windows = int((np.isfinite(map_in(tmp_path / "whole.h5").score)).sum())
    said = done.stdout + done.stderr
    assert f"2 parts joined: {n_windows} windows" in said
    assert f"approximate: of {expected['approximate_windows']} windows" in said


@pytest.mark.mpi
@pytest.mark.parametrize("mode", ["window", "adaptive"])
def test_windows_over_a_damaged_spot_are_unreadable_and_the_others_as_if_nothing_was(mode, tmp_path) -> None:
    model = write_package(tmp_path / "model", side=64)
    options = ["--model", model, "--stride", "16", "--mode", "reference", "--stride-mode", mode]
    whole, damaged = (tissue_slide(tmp_path / f"{name}.tif") for name in ("whole", "damaged"))
    wipe_tile(damaged, 5)  # level-0 pixels 256..511 each way
    for slide, code, ranks in ((whole, 0, None), (damaged, 3, None), (damaged, 3, 3)):
        result = tmp_path / f"{slide.stem}{ranks or ''}.h5"
        assert pyramidai(slide, "-o", result, *options, ranks=ranks).returncode == code
    assert digest_of(tmp_path / "damaged3.h5") == digest_of(tmp_path / "damaged.h5")
    before, after = map_in(tmp_path / "whole.h5"), map_in(tmp_path / "damaged.h5")
    with open_result(tmp_path / "damaged.h5") as file:
        state, index, attributes = (
            file["levels/0/state"][...],
            file["levels/0/index"][...],
            dict(file["levels/0"].attrs),
        )
        inner = slice(int(attributes["ring_before"]), int(attributes["ring_before"]) + int(attributes["block_cells"]))
        lost = set()
        for (col, row), cells in zip(index.tolist(), state[:, inner, inner], strict=True):
            for down, right in np.argwhere(cells == WindowState.UNREADABLE).tolist():
                lost.add((row * len(cells) + down, col * len(cells) + right))
        reasons = file["failed"]["reason"]
        assert len(reasons) == file.attrs["n_tiles_failed"] > 0
        assert all(b" windows: " in reason for reason in reasons)
    margin = int(attributes["margin_px"])
    corners = {at: [place * 16 - margin for place in at] for at in lost}
    assert all(256 - 64 < corner < 512 for pair in corners.values() for corner in pair)
    if mode == "window":  # all that overlap it, and no other
        over = range((256 - 63 + margin + 15) // 16, (511 + margin) // 16 + 1)
        assert lost == {(row, col) for row in over for col in over}
    good = np.ones(before.score.shape, bool)
    good[tuple(np.array(sorted(lost)).T)] = False
    if mode == "window":
        np.testing.assert_array_equal(before.score[good], after.score[good])
    else:  # what cannot be read is looked at more closely, and so is what lies around it
        far = good & (before.stride == after.stride) & (before.stride == 16)
        np.testing.assert_array_equal(before.score[far], after.score[far])
        assert far.any()


def test_a_pass_over_a_damaged_block_takes_no_window_that_was_not_read(tmp_path) -> None:
    model = write_package(tmp_path / "model", side=64)
    whole, damaged = (tissue_slide(tmp_path / f"{name}.tif") for name in ("whole", "damaged"))
    wipe_tile(damaged, 5)
    options = ["--model", model, "--stride", "16", "--mode", "reference"]
    assert pyramidai(whole, "-o", tmp_path / "whole.h5", *options).returncode == 0
    steps = [*options, "--stride-mode", "adaptive-shared"]
    assert pyramidai(damaged, "-o", tmp_path / "damaged.h5", *steps).returncode == 3
    expected, found = map_in(tmp_path / "whole.h5"), map_in(tmp_path / "damaged.h5")
    fine = (found.stride == 16) & np.isfinite(found.score)
    assert fine.sum() > 500
    assert np.abs(found.score[fine] - expected.score[fine]).max() <= 1e-5


def test_patches_are_taken_where_windows_score_above(made, small_slide, tmp_path) -> None:
    result = made.run("--mode", "reference", "--stride", "56")
    options = ["--size", "112", "--stride", "112", "--mpp", "0.25", "--places", result, "--above", "0.9"]
    assert pyramidai("patches", "extract", small_slide, *options, "-o", tmp_path).returncode == 0
    corners, scores = windows_in(result)
    middles = np.clip(corners[scores > 0.9] + WINDOW // 2, 0, (1499, 1199))
    expected = np.unique(middles // 112, axis=0)
    with PatchFile(tmp_path / "1500.patches.h5") as file:
        found = index_of(file.patches)
    assert len(found) > 5
    assert set(map(tuple, found.tolist())) <= set(map(tuple, expected.tolist()))
