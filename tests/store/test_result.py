"""The digest, recomputed from its words, changes with what a result says and with nothing else."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.base.types import Mode
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.store.results.result import Execution
from tests.results import result_of, write_file


def recomputed(result) -> str:
    data = b"pyramidai-digest/1\n" + result.slide.quickhash.encode() + b"\n"
    data += b"".join(sha256.encode() + b"\n" for sha256 in result.model.level_sha256)
    data += b"".join(struct.pack("<d", level.threshold) for level in result.levels)
    for n in range(len(result.levels)):
        level = result.tree.levels[n]
        data += struct.pack("<q", len(level.index))
        data += b"".join(struct.pack("<II", *index) for index in level.index.tolist())
        data += level.probability.astype("<f4").tobytes()
        data += bytes(level.decision.tolist())
        data += b"".join(struct.pack("<q", parent) for parent in level.parent.tolist())
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("mode", list(Mode))
def test_the_digest_is_the_hash_of_what_its_words_list(tmp_path, mode):
    result = result_of(mode=mode)
    assert result.digest() == recomputed(result)
    assert read_digest(write_file(tmp_path / "out.h5", result)) == recomputed(result)


def test_an_empty_result_has_a_digest_too(tmp_path):
    result = result_of(np.zeros((35, 45), bool))
    assert read_digest(write_file(tmp_path / "out.h5", result)) == recomputed(result)


def test_the_order_of_work_and_how_it_came_about_do_not_matter():
    other = result_of(seed=99, execution=Execution({"n_ranks": 12}, np.zeros(12, [("rank", "<i4")])))
    assert other.digest() == result_of().digest()


def changed(result, n: int, name: str):
    array = getattr(result.tree.levels[n], name).copy()
    array.reshape(-1)[0] += 1 if array.dtype.kind in "iu" else np.float32(2**-20)
    level = replace(result.tree.levels[n], **{name: array})
    return replace(result, tree=replace(result.tree, levels={**result.tree.levels, n: level}))


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize("name", ["index", "probability", "decision", "parent"])
def test_every_table_of_every_level_matters(n, name):
    assert changed(result_of(), n, name).digest() != result_of().digest()


def test_slide_networks_and_thresholds_matter():
    result = result_of()
    others = [
        replace(result, slide=replace(result.slide, quickhash="cd" * 32)),
        replace(result, model=replace(result.model, level_sha256=("01" * 32, "45" * 32, "23" * 32))),
        replace(result, levels=(*result.levels[:2], replace(result.levels[2], threshold=0.31))),
    ]
    assert len({result.digest(), *(other.digest() for other in others)}) == 4


def test_names_of_slide_and_model_do_not_matter():
    result = result_of()
    renamed = replace(result, slide=replace(result.slide, name="x.svs"), model=replace(result.model, name="y"))
    assert renamed.digest() == result.digest()
