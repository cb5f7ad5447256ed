"""A result with all kinds of tiles, its file, and its report."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyramidai_mpi.export.report import write_report
from pyramidai_mpi.slides.identity import quickhash
from pyramidai_mpi.store.results.result import BATCH_DTYPE
from tests.dense import dense_file
from tests.results import result_of, write_file


@pytest.fixture(scope="module")
def made(lossless_slide):
    """A result of the lossless slide, of which two ranks did six batches."""
    result = result_of(np.ones((24, 32), bool))
    batches = np.array(
        [(0, 2, 4, 0, 1), (0, 1, 9, 1, 3), (0, 0, 9, 6, 8), (1, 2, 4, 0, 2), (1, 1, 9, 2, 4), (1, 0, 7, 4, 8)],
        BATCH_DTYPE,
    )
    return replace(
        result,
        slide=replace(result.slide, name="<b>a & b</b>.tif", quickhash=quickhash(lossless_slide)),
        execution=replace(result.execution, batches=batches),
    )


@pytest.fixture(scope="module")
def result(made, tmp_path_factory):
    return write_file(tmp_path_factory.mktemp("report") / "out.h5", made)


@pytest.fixture(scope="module")
def report(result, lossless_slide):
    write_report(result, result.with_name("out.html"), lossless_slide)
    return result.with_name("out.html")


@pytest.fixture(scope="session", params=["uniform", "uneven", "wide", "adaptive"])
def dense(request, lossless_slide, tmp_path_factory):
    """Results of runs with strides over the lossless slide: below a pyramid, alone, and in steps."""
    return dense_file(request.param, lossless_slide, tmp_path_factory.mktemp("dense"))
