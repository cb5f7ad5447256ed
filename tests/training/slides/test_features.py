"""Files of features: ours, CLAM's and TRIDENT's; what holds none is refused in one line."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.patches.formats.foreign_features import FeatureFile, feature_files

ROWS = np.random.default_rng(0).normal(size=(9000, 3)).astype(np.float32)


def written(path, name: str, rows: np.ndarray):
    with h5py.File(path, "w") as file:
        file[name] = rows
    return path


@pytest.mark.parametrize(
    ("name", "rows"),
    [("levels/0/features", ROWS), ("features", ROWS), ("features", ROWS[None]), ("features", ROWS.astype(np.float16))],
    ids=["ours", "CLAM", "TRIDENT", "half precision"],
)
def test_rows_are_read_as_they_stand(tmp_path, name, rows) -> None:
    file = FeatureFile(written(tmp_path / "a.h5", name, rows))
    assert (file.n_tiles, file.n_features) == (9000, 3)
    for wanted in ([0, 1, 2], [8999], [5, 4095, 4096, 4100, 8999], list(range(0, 9000, 7)), []):
        found = file.rows(np.array(wanted, np.int64))
        assert found.dtype == np.float32
        assert (found == rows.reshape(9000, 3)[wanted].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("coords", ROWS, "holds no features"),
        ("features", ROWS.astype(int), "expected floats"),
        ("features", ROWS[:, 0], "expected floats"),
        ("features", np.zeros((2, 3, 4), np.float32), "expected floats"),
        ("features", np.full((2, 3), np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_file_of_features_is_refused(tmp_path, name, rows, said) -> None:
    with pytest.raises(InputError, match=said) as caught:
        FeatureFile(written(tmp_path / "a.h5", name, rows))
    assert "\n" not in str(caught.value)


def test_links_out_of_the_file_and_damage_are_refused(tmp_path) -> None:
    written(tmp_path / "other.h5", "features", ROWS)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["features"] = h5py.ExternalLink("other.h5", "features")
    (tmp_path / "b.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    for name, said in (("a.h5", "holds no features"), ("b.h5", "not a readable"), ("c.h5", "no such file")):
        with pytest.raises(InputError, match=said):
            FeatureFile(tmp_path / name)


def test_a_folder_means_its_files_by_name(tmp_path) -> None:
    for name in ("b.h5", "a.h5", ".c.h5", "d.csv"):
        (tmp_path / name).touch()
    assert feature_files([tmp_path]) == [tmp_path / "a.h5", tmp_path / "b.h5"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no file of features"):
        feature_files([tmp_path / "empty"])
