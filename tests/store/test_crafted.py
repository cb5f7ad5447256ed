"""Whatever a sealed result claims, it is read, or refused in one line, in bounded memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.export.clam import write_clam
from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.run.assemble import RANK_DTYPE
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.store.results.result import BATCH_DTYPE, Execution
from pyramidai_mpi.store.results.writer import TableWriter, create_file, finish_file, slab_of, write_slab
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.dense import dense_file
from tests.results import CREATED, result_of
from tests.store.crafted import changes, crafted

if TYPE_CHECKING:
    from collections.abc import Callable

    import h5py

N_FEATURES = 5
SHARE = 300


@pytest.fixture(scope="module")
def whole(lossless_slide, tmp_path_factory):
    """A result with all that a result may hold, of a slide that is there."""
    ranks = np.zeros(2, RANK_DTYPE)
    ranks["rank"], ranks["host"], ranks["busy_s"], ranks["wall_s"], ranks["level_s"][:, :3] = [0, 1], b"node", 2, 3, 1
    batches = np.array([(0, 2, 4, 0.0, 0.5), (1, 1, 8, 0.25, 1.5)], BATCH_DTYPE)
    facts = {"mode": "pyramid", "min_tissue": 0.05, "analyse_s": 1.5, "tissue_s": 0.5, "load_s": 0.1, "batch_size": 16}
    mask = np.random.default_rng(3).random((24, 32)) < 0.2
    made = result_of(mask, execution=Execution(facts, ranks, batches))
    levels = tuple(replace(level, n_features=N_FEATURES) for level in made.levels)
    made = replace(made, levels=levels, slide=replace(made.slide, quickhash=quickhash(lossless_slide)))
    path = tmp_path_factory.mktemp("whole") / "out.h5"
    create_file(path, made, CREATED, "0.1.0")
    write_slab(path, slab_of(made, 0, 1))
    writer = TableWriter(path)
    for level, rows in made.tree.levels.items():
        writer.write(level, "features", 0, np.ones((len(rows), N_FEATURES), np.float32))
    writer.close()
    finish_file(path, made.execution, made.digest())
    return path


@pytest.fixture(scope="module")
def strided(lossless_slide, tmp_path_factory):
    """A result of a run over strides in steps of the same slide."""
    return dense_file("adaptive", lossless_slide, tmp_path_factory.mktemp("strided"))


def surprises(whole, slide, folder, first: int, step: int) -> list[str]:
    """What a process says of every `step`-th change that was neither read nor refused in one line."""
    words = [sys.executable, "-m", "tests.store.read_crafted", whole, slide, folder, str(first), str(step)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=REPOSITORY)
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-3000:]} {done.stderr[-3000:]}"
    *found, last = done.stdout.splitlines()
    assert last.endswith("refused")
    return found


def test_any_changed_number_type_or_size_is_read_or_refused_in_one_line(whole, lossless_slide, tmp_path):
    """Of some changes; ``python -m tests.store.read_crafted RESULT SLIDE FOLDER 0 1`` takes all."""
    assert surprises(whole, lossless_slide, tmp_path, 7, SHARE) == []


def test_there_are_changes_of_all_kinds(whole):
    names = [name for name, _ in changes(whole)]
    assert len(names) == len(set(names)) > 1500


def test_so_it_is_of_windows_at_a_stride(strided, lossless_slide, tmp_path):
    assert surprises(strided, lossless_slide, tmp_path, 11, 2 * SHARE) == []


def test_there_are_changes_of_all_kinds_of_windows_at_a_stride(strided):
    places = {
        f"levels/0 {name}" for name in ("cell_px", "block_cells", "margin_px", "ring_before", "base_px", "network")
    }
    names = [name for name, _ in changes(strided)]
    assert all(any(name.startswith(place) for name in names) for place in (*places, "levels/0/score", "levels/0/state"))


def a_huge_slide(file: h5py.File) -> None:
    """Of 2**40 tiles: its own arrays of them would take terabytes."""
    file["slide"].attrs["dimensions"] = [2**26, 2**26]


def a_huge_slide_of_a_small_mask(file: h5py.File) -> None:
    a_huge_slide(file)
    file["tissue/mask"].attrs["downsample"] = 2.0**26 / 45


def a_huge_slide_of_tiny_tiles(file: h5py.File) -> None:
    a_huge_slide(file)
    file["model"].attrs["tile_size"] = 1


def a_table_in_one_huge_piece(file: h5py.File) -> None:
    del file["levels/0/decision"]
    made = file.create_dataset("levels/0/decision", (2**31,), "u1", chunks=(2**31,), compression="gzip")
    made.id.write_direct_chunk((0,), b"x" * (2**21))


def many_ranks(file: h5py.File) -> None:
    del file["execution/ranks"]
    ranks = np.zeros(2**17, [("rank", "i4"), ("busy_s", "f8")])
    file.create_dataset("execution/ranks", data=ranks, chunks=(2**14,), compression="gzip")


def a_batch_of_no_rank(file: h5py.File) -> None:
    batches = file["execution/batches"][...]
    batches["rank"] = 1000
    file["execution/batches"][...] = batches


def test_batches_of_ranks_that_are_not_there_are_refused_by_the_report(whole, tmp_path):
    path = crafted(whole, tmp_path / "crafted.h5", a_batch_of_no_rank)
    read_digest(path)
    with pytest.raises(InputError, match="batches are of no rank"):
        write_report(path, tmp_path / "a.html")


def test_a_slide_whose_name_no_file_can_have_is_no_slide_for_clam(whole, tmp_path):
    path = crafted(whole, tmp_path / "crafted.h5", lambda file: file["slide"].attrs.__setitem__("name", "x" * 5000))
    with pytest.raises(InputError, match="too long"):
        write_clam(path, tmp_path / "clam")


def one_cell(state: int, score: float | None = None) -> Callable[[h5py.File], None]:
    """A cell of the first block of level 0 in another state, or with another score."""

    def change(file: h5py.File) -> None:
        place = (0, *np.argwhere(file["levels/0/state"][0] == 1)[0])  # one that was looked at
        file["levels/0/state"][place] = state
        if score is not None:
            file["levels/0/score"][place] = score

    return change


@pytest.mark.parametrize(
    "change",
    [
        one_cell(0),
        one_cell(4),
        one_cell(5),
        one_cell(255),
        one_cell(1, np.nan),
        one_cell(2, np.inf),
        one_cell(3, np.nan),
    ],
    ids=["nothing there", "unreadable", "state 5", "state 255", "no score", "endless score", "no coarser score"],
)
def test_cells_whose_state_and_score_do_not_fit_are_refused(strided, tmp_path, change):
    with pytest.raises(InputError, match="the cells of level 0 do not fit their states"):
        read_digest(crafted(strided, tmp_path / "crafted.h5", change))


def single_windows_below_blocks(file: h5py.File) -> None:
    file["levels/0"].attrs["cell_px"] *= file["levels/0"].attrs["block_cells"]
    file["levels/0"].attrs["block_cells"] = 1


def no_stride_at_one_level(file: h5py.File) -> None:
    del file["levels/0"].attrs["cell_px"]


def cells_that_do_not_nest(file: h5py.File) -> None:
    """Blocks of a side that fits, of other cells."""
    attributes = file["levels/1"].attrs
    side = attributes["cell_px"] * attributes["block_cells"]
    attributes["cell_px"], attributes["block_cells"] = side // 2 - 1, 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda file: file["levels/0"].attrs.__setitem__("block_cells", 2**20), "a level 0 of such sizes"),
        (single_windows_below_blocks, "blocks of windows above single ones"),
        (no_stride_at_one_level, "a stride at some levels alone|of such sizes"),
        (cells_that_do_not_nest, "that do not nest"),
    ],
    ids=["too wide a block", "single windows below", "no stride", "uneven cells"],
)
def test_levels_whose_strides_are_of_no_run_are_refused(strided, tmp_path, change, said):
    with pytest.raises(InputError, match=said):
        read_digest(crafted(strided, tmp_path / "a.h5", change))


@pytest.mark.parametrize(
    "change",
    [
        a_huge_slide, a_huge_slide_of_a_small_mask, a_huge_slide_of_tiny_tiles, a_table_in_one_huge_piece, many_ranks,
    ],
)  # fmt: skip
def test_sizes_that_do_not_fit_each_other_are_refused_before_anything_is_made_of_them(whole, tmp_path, change):
    with pytest.raises(InputError) as caught:
        read_digest(crafted(whole, tmp_path / "crafted.h5", change))
    assert "\n" not in str(caught.value)
