"""The decision of a package: a threshold, or a band over strides; anything else is refused in one line."""

from __future__ import annotations

import pytest
import yaml

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.decision_entry import decision_entry
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.pyramid.refining import Band
from tests.packages import write_package


@pytest.mark.parametrize("entry", [{}, {"type": "threshold"}])
def test_a_threshold_says_nothing_of_strides(tmp_path, entry):
    package = load_package(write_package(tmp_path / "model", yaml_changes={"decision": entry}))
    assert (package.band, package.band_strides) == (None, None)


@pytest.mark.parametrize(
    ("entry", "band", "strides"),
    [
        ({"type": "band", "low": 0.2, "high": 0.8, "step": 0.5}, Band(0.2, 0.8, 0.5), None),
        ({"type": "band", "low": 0, "high": 1, "step": 2}, Band(0.0, 1.0, 2.0), None),
        ({"type": "band", "low": "1e-3", "high": 0.5, "step": "1e-1"}, Band(0.001, 0.5, 0.1), None),
        (
            {"type": "band", "strides": [8, 16, 64], "low": 0.5, "high": 0.5, "step": 0.3},
            Band(0.5, 0.5, 0.3),
            (8, 16, 64),
        ),
    ],
)
def test_a_band_is_read_as_written(tmp_path, entry, band, strides):
    package = load_package(write_package(tmp_path / "model", yaml_changes={"decision": entry}))
    assert (package.band, package.band_strides) == (band, strides)


@pytest.mark.parametrize("strides", [None, (4, 8, 56)])
def test_what_is_written_is_read_again(tmp_path, strides):
    band = Band(0.1 + 0.2, 0.7, 1 / 3)  # no short decimals: to the bit all the same
    entry = yaml.safe_load(yaml.safe_dump(decision_entry(band, strides)))
    package = load_package(write_package(tmp_path / "model", yaml_changes={"decision": entry}))
    assert (package.band, package.band_strides) == (band, strides)
    assert decision_entry(None) == {"type": "threshold"}


SOUND = {"type": "band", "strides": [8, 16], "low": 0.2, "high": 0.8, "step": 0.5}
BAD = {
    "another type": ({"type": "vote"}, ["threshold", "band"]),
    "a threshold with more": ({"type": "threshold", "low": 0.2}, ["threshold", "band"]),
    "no mapping": ("band", ["threshold", "band"]),
    "no step": ({key: value for key, value in SOUND.items() if key != "step"}, ["step", "number"]),
    "unknown entry": (SOUND | {"halo": 1}, ["'halo'", "strides"]),
    "low above high": (SOUND | {"low": 0.9}, ["0.9", "0.8", "low <= high"]),
    "high above 1": (SOUND | {"high": 1.5}, ["1.5", "<= 1"]),
    "low below 0": (SOUND | {"low": -0.1}, ["-0.1", "0 <= low"]),
    "step of 0": (SOUND | {"step": 0}, ["step", "above 0"]),
    "no number": (SOUND | {"low": True}, ["low", "True"]),
    "not finite": (SOUND | {"step": float("nan")}, ["step", "nan"]),
    "beyond any float": (SOUND | {"step": 10**400}, ["step", "number"]),
    "one stride": (SOUND | {"strides": [16]}, ["strides", "two or more"]),
    "no list of strides": (SOUND | {"strides": 16}, ["strides", "two or more"]),
    "a stride of 0": (SOUND | {"strides": [0, 16]}, ["strides", "whole numbers"]),
    "a stride that is no whole number": (SOUND | {"strides": [8.0, 16.0]}, ["strides", "whole numbers"]),
    "wider than a window": (SOUND | {"strides": [16, 128]}, ["strides", "1 to 64"]),
    "no whole multiple": (SOUND | {"strides": [16, 24]}, ["strides", "multiple"]),
    "the coarsest first": (SOUND | {"strides": [32, 16]}, ["strides", "finest first"]),
    "twice the same": (SOUND | {"strides": [16, 16]}, ["strides", "finest first"]),
}


@pytest.mark.parametrize(("entry", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_decision_is_refused_in_one_line(tmp_path, entry, said):
    folder = write_package(tmp_path / "model", yaml_changes={"decision": entry})
    with pytest.raises(InputError) as caught:
        load_package(folder)
    line = str(caught.value)
    assert "\n" not in line
    assert "model.yaml" in line
    assert "decision" in line
    assert all(word in line for word in said), line
