"""Data sets of patches in torch's loaders, with workers of both kinds."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="needs torch: pip install pyramidai_mpi[train]")

from torch.utils.data import DataLoader  # noqa: E402

import pyramidai_mpi  # noqa: E402
from pyramidai_mpi.base.errors import UsageError  # noqa: E402
from pyramidai_mpi.patches.dataset import PatchDataset  # noqa: E402
from pyramidai_mpi.training.patch_stream import PatchStream  # noqa: E402
from tests.patch_files import labelled_by, order_of, write_patches_of  # noqa: E402
from tests.tiffs import textured, write_slide  # noqa: E402


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two files of 48 patches of 64 px in groups of 10; labels are 0 and 1."""
    folder = tmp_path_factory.mktemp("patches")
    for seed in (0, 1):
        slide = write_slide(folder / f"s{seed}.tif", [textured(512, 384, seed)])
        change = labelled_by(["normal", "tumor"], lambda table: table["col"] % 2)
        write_patches_of(slide, folder / f"s{seed}.patches.h5", order_of(64, 64, group=10), change=change)
    return PatchDataset(folder, with_info=True)


def read(loader):
    """Place, pixels and label of each item that a loader gives, in its order."""
    found = []
    for pixels, labels, info in loader:
        assert pixels.dtype == torch.uint8
        assert pixels.shape[1:] == (64, 64, 3)
        places = zip(info["file"], info["patch"].tolist(), strict=True)
        found += zip(places, (one.numpy().tobytes() for one in pixels), labels.tolist(), strict=True)
    return found


@pytest.fixture(scope="module")
def expected(data):
    items = [data[number] for number in range(len(data))]
    return sorted(((info["file"], info["patch"]), pixels.tobytes(), label) for pixels, label, info in items)


@pytest.mark.parametrize(("workers", "way"), [(0, None), (2, "fork"), (2, "spawn")])
def test_each_patch_comes_once_in_either_kind_of_loader(data, expected, workers, way):
    options = {"batch_size": 7, "num_workers": workers, "multiprocessing_context": way}
    plain = read(DataLoader(data, **options))
    assert plain == expected
    streamed = read(DataLoader(PatchStream(data, seed=2), **options))
    assert sorted(streamed) == expected
    assert streamed != expected


def test_workers_that_live_on_see_the_next_epoch(data, expected):
    stream = PatchStream(data, seed=2)
    loader = DataLoader(stream, batch_size=8, num_workers=2, persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        epochs.append(read(loader))
        assert sorted(epochs[-1]) == expected
    assert epochs[0] == epochs[2]
    assert [place for place, *_ in epochs[0]] != [place for place, *_ in epochs[1]]


@pytest.mark.parametrize("workers", [0, 2])
def test_ranks_have_shares_that_do_not_depend_on_their_workers(data, expected, workers):
    shares = []
    for rank in (0, 1):
        stream = PatchStream(data, seed=5, rank=rank, world=2)
        shares.append(read(DataLoader(stream, batch_size=5, num_workers=workers)))
        alone = [(info["file"], info["patch"]) for _, _, info in data.shuffled(5, rank=rank, world=2)]
        assert sorted(place for place, *_ in shares[-1]) == sorted(alone)
        assert len(stream) == len(alone)
    assert sorted(shares[0] + shares[1]) == expected


def test_a_loader_of_several_workers_has_the_same_order_each_time(data):
    orders = [
        [place for place, *_ in read(DataLoader(PatchStream(data, seed=1), batch_size=4, num_workers=2))]
        for _ in range(2)
    ]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("share", [{"rank": 0}, {"world": 2}, {"rank": 2, "world": 2}, {"seed": -1}])
def test_shares_that_cannot_be_are_refused(data, share):
    with pytest.raises(UsageError):
        PatchStream(data, **share)


def test_the_package_has_it():
    assert pyramidai_mpi.PatchStream is PatchStream
