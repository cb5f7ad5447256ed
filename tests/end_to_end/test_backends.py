"""Each backend gives one result for all ranks and batches, nearly that of the other, and is named in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest

from tests.end_to_end.conftest import digest_of, pyramidai
from tests.leaving import assert_nothing, left_by

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.mpi


def test_openvino_gives_one_digest_and_nearly_the_probabilities_of_onnxruntime(
    slide: Path, pyramid_run: Path, tmp_path: Path
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    alone, shared = tmp_path / "alone.h5", tmp_path / "shared.h5"
    assert pyramidai(slide, "-o", alone, "--backend", "openvino").returncode == 0
    options = ["--backend", "openvino", "--batch-size", "3"]
    assert pyramidai(slide, "-o", shared, *options, ranks=3).returncode == 0
    assert digest_of(alone) == digest_of(shared)
    with h5py.File(pyramid_run) as expected, h5py.File(shared) as found:
        assert expected["execution"].attrs["backend"] == "onnxruntime"
        assert (found["execution"].attrs["backend"], found["execution"].attrs["precision"]) == ("openvino", "float32")
        for n in ("0", "1", "2"):
            # a tile on the edge of the threshold may be decided otherwise, and none is on this slide
            np.testing.assert_array_equal(found[f"levels/{n}/index"][...], expected[f"levels/{n}/index"][...])
            difference = found[f"levels/{n}/probability"][...] - expected[f"levels/{n}/probability"][...]
            assert np.abs(difference).max() < 1e-3


def test_auto_decides_for_one_and_says_which(slide: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.h5"
    done = pyramidai(slide, "-o", output, "--backend", "auto", ranks=2)
    assert done.returncode == 0
    with h5py.File(output) as file:
        backend = file["execution"].attrs["backend"]
    assert backend in {"onnxruntime", "openvino"}
    assert f"backend auto: {backend}" in done.stderr


def test_bfloat16_without_openvino_is_a_mistake_that_is_named(slide: Path, tmp_path: Path) -> None:
    done = pyramidai(slide, "-o", tmp_path / "out.h5", "--precision", "bfloat16")
    assert done.returncode == 64
    assert "--precision bfloat16: only with --backend openvino" in done.stderr


@pytest.mark.parametrize("keeps", [True, False])
def test_a_run_of_openvino_sends_nothing_and_leaves_its_cache_or_nothing(
    slide: Path, tmp_path: Path, keeps: bool
) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is an extra: pip install 'pyramidai-mpi[openvino]'")
    words = [slide, "-o", tmp_path / "out.h5", "--backend", "openvino", *([] if keeps else ["--no-compiled-cache"])]
    left = left_by(words, tmp_path / "watched", ranks=2)
    if keeps:
        assert [name for name in left.files if not name.endswith(".network")] == [
            "home/.cache",
            "home/.cache/pyramidai",
            "home/.cache/pyramidai/networks",
        ]
        assert len(left.files) == 3 + 3
        assert left.reached in ([], None)
    else:
        assert_nothing(left)
