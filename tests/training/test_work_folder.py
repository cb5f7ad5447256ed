"""The folder of work of a training: see `training.exact.work_folder`."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.exact.work_folder import begin_work, state_path


def begun(states, said, *, resume=False, overwrite=False) -> None:
    begin_work(UnitPool(), states, resume=resume, overwrite=overwrite, say=said.append)


@pytest.mark.parametrize(
    ("name", "own", "others"),
    [
        ("", ["state.pt", "log.csv", "log-times.csv", "curves.html"], ["level0.log.csv", "a-dark", "notes.txt"]),
        ("level0", ["level0.state.pt", "level0.log.csv", "level0.best.pt"], ["level1.state.pt", "log.csv"]),
    ],
)
def test_a_training_of_whichever_kind_is_gone_on_with_or_begun_anew_and_no_other(tmp_path, name, own, others) -> None:
    state, said = state_path(tmp_path / "work", name), []
    begun([state], said)  # of nothing nobody speaks who did not ask to go on
    assert said == []
    assert state.parent.is_dir()
    begun([state], said, resume=True)
    assert said == [f"{state.parent}: holds no state to go on from; --resume begins anew"]
    for file in (*own, *others):
        (state.parent / file).write_text("")
    with pytest.raises(OutputExistsError, match=f"{state.name}: is the state of a training; --resume goes on from"):
        begun([state], said)
    begun([state], said, resume=True)
    assert {path.name for path in state.parent.iterdir()} == {*own, *others}
    begun([state], said, overwrite=True)
    assert {path.name for path in state.parent.iterdir()} == set(others)
    assert len(said) == 1
