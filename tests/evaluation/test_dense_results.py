"""Real runs with strides of small slides, judged and told apart; the files themselves are read with h5py alone."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.types import WindowState
from pyramidai_mpi.classification.score_map import read_score_map
from pyramidai_mpi.cli.main import run_command_line
from tests.commands import commands

if TYPE_CHECKING:
    from pathlib import Path

STRIDE, WINDOW = 56, 224
SLIDES = {
    "t1": ["--size", "1700x1500", "--seed", "1", "--tumor-share", "0.5"],
    "t2": ["--size", "1700x1500", "--seed", "2", "--tumor-share", "0.5"],
    "n1": ["--size", "1500x1400", "--seed", "11", "--tumor-share", "0"],
    "n2": ["--size", "1300x1200", "--seed", "12", "--tumor-share", "0"],
}
NAMES = tuple(SLIDES)
RUNS = {
    "whole": ["--mode", "reference", "--stride", STRIDE],
    "adaptive": ["--mode", "reference", "--stride", STRIDE, "--stride-mode", "adaptive"],
    "below": ["--mode", "pyramid", "--stride", STRIDE],
    "tiles": ["--mode", "reference"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two slides with tumour and two without, their truth, and results of four runs of each."""
    folder = tmp_path_factory.mktemp("slides")
    made = [["synth", folder / f"{name}.tif", *words, "--threads", "1", "-q"] for name, words in SLIDES.items()]
    slides = [folder / f"{name}.tif" for name in NAMES]
    for kind, words in RUNS.items():
        (folder / kind).mkdir()
        made.append(["run", *slides, "--results-dir", folder / kind, *map(str, words), "-q"])
    assert [one.returncode for one in commands(*made, timeout=500)] == [0] * len(made)
    return folder


@pytest.fixture
def call(capfd):
    def run(*words: object) -> tuple[int, str, str]:
        code = run_command_line([str(word) for word in words])
        out, err = capfd.readouterr()
        return int(code), out, err

    return run


def painted(path: Path, stride: int = STRIDE) -> np.ndarray:
    """Scores of the finest look at each cell, by loops over what the file holds."""
    with h5py.File(path) as file:
        width, height = file["slide"].attrs["dimensions"]
        score = np.full((math.ceil(height / stride), math.ceil(width / stride)), np.nan, np.float32)
        for n in sorted(map(int, file["levels"]), reverse=True):
            level = file[f"levels/{n}"]
            if "score" not in level:
                continue
            times, before, side = (int(level.attrs[name]) for name in ("cell_px", "ring_before", "block_cells"))
            times //= stride
            for (col, row), found, state in zip(
                level["index"][...], level["score"][...], level["state"][...], strict=True
            ):
                for r in range(side):
                    for c in range(side):
                        at = before + r, before + c
                        if state[at] in (WindowState.LOOKED, WindowState.SAME):
                            top, left = (int(row) * side + r) * times, (int(col) * side + c) * times
                            score[top : top + times, left : left + times] = found[at]
    return score


def test_the_figures_are_those_counted_in_the_files(call, folder, tmp_path):
    results = [folder / kind / f"{name}.h5" for kind in ("whole", "adaptive") for name in NAMES]
    code, out, err = call(
        "evaluate", *results, "--truth", folder, "--stride", 112, "--resamples", 20, "--json", tmp_path / "e.json",
        "--csv", tmp_path / "e.csv", "--plots", tmp_path,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "4 slides, 2 with tumour: 2 lesions, 0 of isolated cells" in out
    record = json.loads((tmp_path / "e.json").read_text())
    whole, coarse, adaptive = record["maps"]
    assert [one["name"] for one in record["maps"]] == ["stride 56", "stride 112", "adaptive, stride 56"]
    maps = {kind: [painted(folder / kind / f"{name}.h5") for name in NAMES] for kind in ("whole", "adaptive")}
    assert whole["windows"] == sum(int((~np.isnan(one)).sum()) for one in maps["whole"])
    # windows of every 112 px have their corners at its multiples: of every second window of every 56 px
    assert coarse["windows"] == sum(int((~np.isnan(one[::2, ::2])).sum()) for one in maps["whole"])
    assert adaptive["windows"] < whole["windows"]
    states = [
        level["state"][...]
        for name in NAMES
        for level in h5py.File(folder / f"adaptive/{name}.h5")["levels"].values()
        if "state" in level
    ]
    assert adaptive["windows"] == sum(int(np.isin(one, (1, 4)).sum()) for one in states)
    highest = [float(np.nanmax(one)) for one in maps["whole"]]
    assert whole["slide_auc"]["value"] == roc_auc_score([True, True, False, False], highest)
    with h5py.File(folder / "whole/t1.h5") as file:
        threshold = float(file["levels/0"].attrs["threshold"])
    pairs = [
        (a[~np.isnan(b)] >= threshold, b[~np.isnan(b)] >= threshold)  # coarse cells reach over those of the whole map
        for a, b in zip(maps["adaptive"], maps["whole"], strict=True)
    ]
    both, either = sum(int((a & b).sum()) for a, b in pairs), sum(int((a | b).sum()) for a, b in pairs)
    assert adaptive["agreement"]["iou"] == both / either
    assert 0.9 < both / either < 1
    assert whole["froc"]["lesions"] == 2
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 1 + 4 * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e.csv", "e.json", "froc.png", "froc.svg"]
    for one in record["maps"]:
        assert f"{one['name']}: {one['froc']['score']['value']:.3f}".replace(" ", "") in (
            "".join(re.findall(r"<!-- (.*?) -->", (tmp_path / "froc.svg").read_text())).replace(" ", "")
        )


def test_what_does_not_go_together_is_refused(call, folder, tmp_path):
    whole, tiles = folder / "whole/t1.h5", folder / "tiles/t1.h5"
    truth = ["--truth", folder]
    for words, code, said in (
        (["evaluate", whole, *truth, "--threshold", "0=0.3"], 64, "--threshold: is of tiles"),
        (["evaluate", whole, *truth, "--min-share", 0.5], 64, "--min-share: is of tiles"),
        (["evaluate", tiles, *truth, "--stride", 224], 64, "no result is of a run with --stride"),
        (["evaluate", whole, *truth, "--stride", 100], 64, "stride 100: windows of every 100 px"),
        (["evaluate", whole, whole, *truth], 64, "both runs of one slide at stride 56"),
        (["evaluate", folder / "adaptive/t1.h5", *truth, "--stride", 112], 64, "not looked everywhere at one stride"),
        (["evaluate", folder / "below/t1.h5", *truth, "--stride", 112], 64, "not looked everywhere at one stride"),
    ):
        ended, out, err = call(*words)
        assert (ended, out) == (code, "")
        assert said in err
    for kind in ("adaptive", "below"):
        with pytest.raises(UsageError, match=r"it is of .*stride 56"):
            read_score_map(folder / kind / "t1.h5", stride=112)
    with pytest.raises(InputError, match="with strides"):
        read_score_map(whole, pyramid=True)


def test_a_run_of_tiles_side_by_side_is_a_map_too(call, folder, tmp_path):
    results = [folder / kind / f"{name}.h5" for kind in ("whole", "tiles") for name in NAMES]
    code, _, _ = call("evaluate", *results, "--truth", folder, "--resamples", 10, "--json", tmp_path / "e.json")
    maps = {one["name"]: one for one in json.loads((tmp_path / "e.json").read_text())["maps"]}
    assert code == 0
    assert list(maps) == ["stride 56", "stride 112", "stride 224"]
    # its own run goes before what the finer one tells of it, which lacks windows whose centre is off the slide
    counted = centred = 0
    for name in NAMES:
        with h5py.File(folder / f"tiles/{name}.h5") as file:
            index, size = file["levels/0/index"][...], file["slide"].attrs["dimensions"]
        counted += len(index)
        centred += int((index * WINDOW + WINDOW / 2 < size).all(axis=1).sum())
    assert maps["stride 224"]["windows"] == counted > centred
    call("evaluate", *results[: len(NAMES)], "--truth", folder, "--resamples", 10, "--json", tmp_path / "f.json")
    alone = {one["name"]: one for one in json.loads((tmp_path / "f.json").read_text())["maps"]}
    assert alone["stride 224"]["windows"] == centred
    assert [alone[name] for name in ("stride 56", "stride 112")] == [maps[name] for name in ("stride 56", "stride 112")]


@pytest.mark.parametrize("name", NAMES)
def test_the_score_map_of_a_coarser_stride_is_that_of_its_own_run_to_the_bit(folder, name):
    fine, tiles = folder / "whole" / f"{name}.h5", read_score_map(folder / "tiles" / f"{name}.h5")
    whole, part = read_score_map(fine), read_score_map(fine, stride=WINDOW)
    np.testing.assert_array_equal(whole.score, painted(fine))
    assert (whole.run, whole.cell) == ("stride 56", 0.25)
    with h5py.File(fine) as file:
        width, height = file["slide"].attrs["dimensions"]
    rows, cols = np.indices(tiles.score.shape)
    # a window whose centre is off the slide has no cell there, and so no window of a finer stride
    on_slide = (cols * WINDOW + WINDOW / 2 < width) & (rows * WINDOW + WINDOW / 2 < height)
    np.testing.assert_array_equal(part.score, np.where(on_slide, tiles.score, np.nan))
    assert part.cell == tiles.cell == 1.0
    assert part.seen.sum() > 20


def test_what_a_pyramid_stopped_at_lends_its_score(folder):
    path = folder / "below/n1.h5"
    found, seen = read_score_map(path), painted(path)
    assert found.run.startswith("stride 56, below the pyramid, thresholds 0=")
    known = ~np.isnan(seen)
    np.testing.assert_array_equal(found.score[known], seen[known])
    with h5py.File(path) as file:
        mask, step = file["tissue/mask"][...] > 0, float(file["tissue/mask"].attrs["downsample"])
        expected = 0
        for n in map(str, range(1, len(file["levels"]))):
            level = file[f"levels/{n}"]
            if level.attrs["network"] == 0:
                continue
            side = round(float(level.attrs["downsample"]) * int(level.attrs["cell_px"]) / STRIDE)
            for (col, row), value, decision in zip(
                level["index"][...], level["probability"][:, 1], level["decision"][...], strict=True
            ):
                if decision != 0:
                    continue
                for r in range(int(row) * side, min((int(row) + 1) * side, seen.shape[0])):
                    for c in range(int(col) * side, min((int(col) + 1) * side, seen.shape[1])):
                        at = tuple(
                            min(int((k + 0.5) * STRIDE / step), n - 1) for k, n in zip((r, c), mask.shape, strict=True)
                        )
                        if mask[at] and np.isnan(seen[r, c]):
                            assert found.score[r, c] == value
                            expected += 1
        assert expected > 100


def test_slides_are_told_apart_by_maps_of_any_stride(call, folder, tmp_path):
    results = [folder / "whole" / f"{name}.h5" for name in NAMES]
    (tmp_path / "labels.csv").write_text("t1.tif,tumor\nt2.tif,tumor\nn1.tif,normal\nn2.tif,normal\n")
    words = ["--labels", tmp_path / "labels.csv"]
    fit = [*words, "--folds", 2, "--trees", 5, "-o", tmp_path / "c.skops"]
    code, out, _ = call("classify", "fit", *results, *fit, "--stride", 112)
    assert (code, "tiles of: stride 112" in out) == (0, True)
    # areas are in windows, so that the forest takes maps of other strides too, and says so
    code, out, err = call("classify", "predict", tmp_path / "c.skops", *results, *words)
    assert code == 0
    assert "fitted on tiles of: stride 112. These are of: stride 56" in err
    assert len(out.splitlines()) == 5
