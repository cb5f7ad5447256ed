"""What `--overwrite` replaces: the folder of that name, and nothing beside it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.training.slides.output import _placed_over
from pyramidai_mpi.training.trained_package import placed_training


@pytest.mark.parametrize("placing", [lambda folder: placed_training(folder, overwrite=True), _placed_over])
def test_a_folder_beside_the_package_with_a_like_name_stays(tmp_path, placing) -> None:
    for name in ("model", "model.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(name)
    with placing(tmp_path / "model") as partial:
        (partial / "README.md").write_text("trained")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.new"]
    assert [(tmp_path / name / "README.md").read_text() for name in ("model", "model.new")] == ["trained", "model.new"]
