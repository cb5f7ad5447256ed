"""The shipped model is found beside the package or where the installer put it."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import pytest
from mpi4py import MPI

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.models import shipped
from pyramidai_mpi.run.networks import begin_trial, open_package
from tests.packages import write_package


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """A package that lies in an installation, without a checkout around it."""
    monkeypatch.setattr(
        shipped, "__file__", str(tmp_path / "site-packages" / "pyramidai_mpi" / "models" / "shipped.py")
    )
    return tmp_path


def put_model(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.yaml").touch()
    return folder


def test_in_a_checkout_it_lies_beside_the_package(elsewhere):
    folder = put_model(elsewhere / "site-packages" / "models" / "small")
    assert shipped.default_model() == folder


def test_in_an_installation_it_is_where_the_installer_says(elsewhere, monkeypatch):
    folder = put_model(elsewhere / "share" / "pyramidai_mpi" / "models" / "small")

    class Installed(PurePosixPath):
        def locate(self) -> Path:
            return elsewhere / "site-packages" / self

    listed = [
        Installed("pyramidai_mpi/models/shipped.py"),
        Installed("../share/pyramidai_mpi/models/small/level0.onnx"),
        Installed("../share/pyramidai_mpi/models/small/model.yaml"),
    ]
    (elsewhere / "site-packages").mkdir()
    monkeypatch.setattr(shipped, "files", lambda _name: listed)
    assert shipped.default_model() == folder


@pytest.mark.parametrize("listed", [[], None])
def test_an_installation_without_it_says_what_to_do(elsewhere, monkeypatch, listed):
    monkeypatch.setattr(shipped, "files", lambda _name: listed)
    with pytest.raises(InputError, match="--model") as caught:
        shipped.default_model()
    assert caught.value.exit_code == 65


def test_a_package_that_is_not_installed_at_all_says_so_too(elsewhere, monkeypatch):
    def missing(name):
        raise shipped.PackageNotFoundError(name)

    monkeypatch.setattr(shipped, "files", missing)
    with pytest.raises(InputError, match="--model"):
        shipped.default_model()


def test_another_model_does_not_need_it(elsewhere, monkeypatch):
    monkeypatch.setattr(shipped, "files", lambda _name: [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(elsewhere / "cache"))  # what was tried before is not tried again
    package = open_package(write_package(elsewhere / "mine"), check_networks=False)
    assert open_package(package.folder, check_networks=True).name == package.name
    with begin_trial(MPI.COMM_SELF, RunSettings.of(Path("x.tif"), package.folder, Path("x.h5"))) as trial:
        assert trial is not None


def test_a_model_is_found_by_its_name_or_its_folder_and_a_folder_of_that_name_goes_first(elsewhere, monkeypatch):
    shipped_folder = put_model(elsewhere / "site-packages" / "models" / "small")
    other = put_model(elsewhere / "site-packages" / "models" / "large")
    (elsewhere / "here").mkdir()
    monkeypatch.chdir(elsewhere / "here")
    assert shipped.shipped_models() == {"large": other, "small": shipped_folder}
    assert shipped.find_model(None) == shipped.find_model(Path("small")) == shipped_folder
    assert shipped.find_model(Path("large")) == other
    (elsewhere / "here" / "small").mkdir()
    for word in ("small", "./small", "gone/small", "/gone"):
        assert shipped.find_model(Path(word)) == Path(word)
    assert shipped.is_shipped(other)
    assert not shipped.is_shipped(Path("small"))


@pytest.mark.parametrize(
    ("word", "meant"), [("smal", "did you mean 'small'"), ("SMALL", "'small'"), ("x", "models list")]
)
def test_a_name_that_there_is_not_is_answered_with_the_nearest(elsewhere, monkeypatch, word, meant):
    put_model(elsewhere / "site-packages" / "models" / "small")
    monkeypatch.chdir(elsewhere)
    with pytest.raises(InputError, match=f"{word}: is neither a folder of a model nor the name.*{meant}"):
        shipped.find_model(Path(word))


def test_it_is_told_from_others_whatever_leads_there(elsewhere):
    folder = put_model(elsewhere / "site-packages" / "models" / "small")
    (elsewhere / "link").symlink_to(folder)
    assert shipped.is_shipped(elsewhere / "link")
    assert not shipped.is_shipped(elsewhere)
