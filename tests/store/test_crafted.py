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
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.store.results.result import BATCH_DTYPE, Execution
from pyramidai_mpi.store.results.writer import FeatureWriter, create_file, finish_file, slab_of, write_slab
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.results import CREATED, result_of
from tests.store.crafted import changes, crafted

if TYPE_CHECKING:
    import h5py

N_FEATURES = 5
SHARE = 100


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A result with all that a result may hold."""
    ranks = np.zeros(2, RANK_DTYPE)
    ranks["rank"], ranks["host"], ranks["busy_s"], ranks["wall_s"], ranks["level_s"][:, :3] = [0, 1], b"node", 2, 3, 1
    batches = np.array([(0, 2, 4, 0.0, 0.5), (1, 1, 8, 0.25, 1.5)], BATCH_DTYPE)
    facts = {"mode": "pyramid", "min_tissue": 0.05, "analyse_s": 1.5, "tissue_s": 0.5, "load_s": 0.1, "batch_size": 16}
    made = result_of(execution=Execution(facts, ranks, batches))
    made = replace(made, levels=tuple(replace(level, n_features=N_FEATURES) for level in made.levels))
    path = tmp_path_factory.mktemp("whole") / "out.h5"
    create_file(path, made, CREATED, "0.1.0")
    write_slab(path, slab_of(made, 0, 1))
    writer = FeatureWriter(path)
    for level, rows in made.tree.levels.items():
        writer.write(level, 0, np.ones((len(rows), N_FEATURES), np.float32))
    writer.close()
    finish_file(path, made.execution, made.digest())
    return path


def surprises(whole, folder, first: int, step: int) -> list[str]:
    """What a process says of every `step`-th change that was neither read nor refused in one line."""
    words = [sys.executable, "-m", "tests.store.read_crafted", whole, folder, str(first), str(step)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, cwd=REPOSITORY)
    assert done.returncode == 0, f"{done.returncode} {done.stdout[-3000:]} {done.stderr[-3000:]}"
    *found, last = done.stdout.splitlines()
    assert last.endswith("refused")
    return found


def test_any_changed_number_type_or_size_is_read_or_refused_in_one_line(whole, tmp_path):
    """Of every hundredth change; ``python -m tests.store.read_crafted RESULT.h5 FOLDER 0 1`` takes all, in minutes."""
    assert surprises(whole, tmp_path, 7, SHARE) == []


def test_there_are_changes_of_all_kinds(whole):
    names = [name for name, _ in changes(whole)]
    assert len(names) == len(set(names)) > 1500


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
