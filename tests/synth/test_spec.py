"""What may be asked of the generator."""

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.synth import SynthSpec, parse_size


@pytest.mark.parametrize(
    ("name", "value"),
    [("width", 10), ("height", 1 << 19), ("mpp", 0.0), ("mpp", float("nan")), ("tumor_share", 0.9), ("seed", -1)],
)
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(UsageError, match=name):
        SynthSpec(**{"width": 1000, "height": 1000, name: value})


def test_tiles_are_256_or_512_pixels():
    with pytest.raises(UsageError, match="tile_size"):
        SynthSpec(1000, 1000, tile_size=240)


def test_a_size_is_width_before_height():
    assert parse_size("20000x15000") == (20000, 15000)


@pytest.mark.parametrize("text", ["20000", "20000x", "x", "1e4x1e4", "-5x10", "20000×20000", "10x20x30"])
def test_a_size_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="WIDTHxHEIGHT"):
        parse_size(text)
