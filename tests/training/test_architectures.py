"""The table of networks to train."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.training.architectures import ARCHITECTURES, check_weights, new_network


@pytest.mark.parametrize("one", ARCHITECTURES, ids=lambda one: one.name)
def test_each_can_be_made_from_its_seed(one):
    torch = pytest.importorskip("torch")
    networks = [new_network(one.name, seed).state_dict() for seed in (3, 3, 4)]
    same, other = ([torch.equal(network[key], networks[0][key]) for key in network] for network in networks[1:])
    assert all(same)
    assert not all(other)


def test_only_those_that_start_from_weights_are_given_any():
    check_weights("small", None)
    check_weights("inception_v3", Path("state.pt"))
    with pytest.raises(UsageError, match="--weights are for inception_v3; small starts from random ones"):
        check_weights("small", Path("state.pt"))
