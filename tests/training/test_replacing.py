"""What `--overwrite` replaces: the folder of that name, and nothing beside it."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.base.errors import OutputExistsError
from pyramidai_mpi.training.slides.output import check_output as check_of_slides
from pyramidai_mpi.training.trained_package import check_output, placed_training


def test_a_folder_beside_the_package_with_a_like_name_stays(tmp_path) -> None:
    for name in ("model", "model.new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "README.md").write_text(name)
        (tmp_path / name / "log.csv").touch()
    with placed_training(tmp_path / "model", overwrite=True) as partial:
        (partial / "README.md").write_text("trained")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "model.new"]
    assert [(tmp_path / name / "README.md").read_text() for name in ("model", "model.new")] == ["trained", "model.new"]


@pytest.mark.parametrize("check", [check_output, check_of_slides])
def test_a_folder_with_nothing_but_a_text_is_no_training_to_replace(tmp_path, check) -> None:
    check(tmp_path, overwrite=True)  # empty
    (tmp_path / "README.md").write_text("dear")
    with pytest.raises(OutputExistsError, match=r"holds no log\.csv and no model\.yaml, so no training"):
        check(tmp_path, overwrite=True)
    (tmp_path / "log.csv").touch()
    check(tmp_path, overwrite=True)
