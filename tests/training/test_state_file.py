"""Files of weights as trainers leave them."""

from __future__ import annotations

from argparse import Namespace

import pytest

pytest.importorskip("torch")

import torch

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.training.convert.state_file import read_state
from pyramidai_mpi.training.networks.compact import new_network
from pyramidai_mpi.training.networks.group_norm import new_encoder

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state},
        lambda state: {"model": state},
        lambda state: {"epoch": 3, "args": Namespace(lr=0.1), "optimizer": {"state": {}}, "model_state_dict": state},
    ],
)
@pytest.mark.parametrize("prefix", ["", "module."])
def test_what_trainers_wrap_weights_into_is_taken_off(tmp_path, wrap, prefix) -> None:
    torch.save(wrap({f"{prefix}{name}": value for name, value in STATE.items()}), tmp_path / "c.pt")
    found = read_state(tmp_path / "c.pt")
    assert list(found) == list(STATE)
    assert all(torch.equal(found[name], STATE[name]) for name in STATE)


def test_a_layer_that_is_called_module_or_model_keeps_its_name(tmp_path) -> None:
    own = {"module.weight": torch.ones(2), "model": torch.ones(1)}
    torch.save(own, tmp_path / "c.pt")
    assert list(read_state(tmp_path / "c.pt")) == list(own)


def test_networks_start_from_a_checkpoint(tmp_path) -> None:
    for make in (new_network, lambda seed, path=None: new_encoder("small-gn", seed, path)):
        state = make(4).state_dict()
        torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, tmp_path / "c.pt")
        started = make(1, tmp_path / "c.pt").state_dict()
        assert all(torch.equal(started[name], state[name]) for name in state)


class Other:
    """Of a kind that reading must not make."""


def test_what_is_no_state_or_would_have_to_be_run_is_refused(tmp_path) -> None:
    for content in ({"epoch": 3}, {"state_dict": {"a": 1}}, {"state_dict": STATE, "args": Other()}):
        torch.save(content, tmp_path / "c.pt")
        with pytest.raises(InputError, match=r"c\.pt: (no state dict|not a file of weights)"):
            read_state(tmp_path / "c.pt")
