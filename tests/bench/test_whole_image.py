"""The bench of whole images measures what it says, on a small one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from bench.training.whole_image import gradients, write_image
from pyramidai_mpi.training.torch_setup import use_one_thread
from pyramidai_mpi.training.whole.blocks import Box
from pyramidai_mpi.training.whole.images import KeptImage


def test_gradients_are_compared_with_plain_autograd() -> None:
    use_one_thread()
    double, plain, single = (figure.value for figure in gradients((640, 512)))
    assert double < 100.0  # in 1e-12
    assert 100 * double < single < plain


def test_its_image_is_one_that_can_be_trained_on(tmp_path) -> None:
    write_image(tmp_path / "image", (1030, 2100))
    image = KeptImage("", (1030, 2100), tmp_path / "image/dark", tmp_path / "image/marks", np.ones((1, 1), bool))
    everything = Box(0, 0, 1030, 2100)
    dark, marked = image.darkness(everything), image.labels(everything)
    assert dark[marked].min() > dark[~marked].max()
    assert 0.3 < marked.mean() < 0.5
