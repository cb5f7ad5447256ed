"""Data sets of patches: each patch once, with its own pixels and label, however it is asked for."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import pyramidai_mpi
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.patches import open_files
from pyramidai_mpi.patches.database import OpenPatches, open_patches
from pyramidai_mpi.patches.dataset import PatchDataset
from pyramidai_mpi.slides.readers.tile_mosaic import CACHE_BYTES
from tests.patch_files import labelled, labelled_by, order_of, write_patches_of, write_pictures_of
from tests.tiffs import textured, write_slide

NAMES = ("normal", "tumor")
SLIDES = ("patient_000_node_0", "patient_000_node_3", "patient_021_node_1", "patient_033_node_2")


def thirds(table):
    """Labels 0, 1, unknown, 0, ... by the cell."""
    return (table["col"] + table["row"]).astype(np.int16) % 3 % 2 - ((table["col"] + table["row"]) % 3 == 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of 12 x 8 patches of 64 px of four slides of three patients, in groups of 20."""
    folder = tmp_path_factory.mktemp("patches")
    slides = tmp_path_factory.mktemp("slides")
    for seed, name in enumerate(SLIDES):
        slide = write_slide(slides / f"{name}.tif", [textured(576, 384, seed)])
        write_patches_of(
            slide, folder / f"{name}.patches.h5", order_of(64, 48, group=20), change=labelled_by(NAMES, thirds)
        )
    return folder


@pytest.fixture(scope="module")
def truth(folder):
    """Pixels and label of each patch, by file and number."""
    found = {}
    for path in sorted(folder.iterdir()):
        with open_patches(path) as patches:
            for number, label in enumerate(patches.table["label"].tolist()):
                found[str(path), number] = patches[number].tobytes(), label
    return found


def test_all_patches_of_a_folder_with_pixels_label_and_place(folder, truth):
    data = PatchDataset(folder, with_info=True)
    assert len(data) == len(truth) == 4 * 96
    assert (data.size, data.label_names) == (64, NAMES)
    n = [sum(label == number for _, label in truth.values()) for number in (0, 1, -1)]
    assert repr(data) == (
        f"<PatchDataset: 384 patches of 64 px at 0.25 µm/px in 4 files: {n[0]} normal, {n[1]} tumor, {n[2]} unknown>"
    )
    assert data.slides == tuple(f"{name}.tif" for name in SLIDES)
    seen = {}
    for number in range(len(data)):
        pixels, label, info = data[number]
        assert (pixels.shape, pixels.dtype) == ((64, 64, 3), np.uint8)
        assert label == data.labels[number]
        seen[info["file"], info["patch"]] = pixels.tobytes(), label
    assert seen == truth
    with open_patches(folder / f"{SLIDES[2]}.patches.h5") as patches:
        info = data[2 * 96 + 17][2]
        assert (info["slide"], info["patch"]) == (f"{SLIDES[2]}.tif", 17)
        assert [info["l0_x"], info["l0_y"]] == patches.coords[17].tolist()


def test_it_is_a_sequence_from_both_ends(folder):
    data = PatchDataset(folder / f"{SLIDES[0]}.patches.h5")
    np.testing.assert_array_equal(data[-1][0], data[95][0])
    np.testing.assert_array_equal(data[np.int64(3)][0], data[3][0])
    for number in (96, -97):
        with pytest.raises(IndexError):
            data[number]
    with pytest.raises(TypeError):
        data[1.5]
    assert len(list(data)) == 96


@pytest.mark.parametrize(
    ("labels", "unknown", "wanted"),
    [
        (None, None, {-1, 0, 1}),
        (None, False, {0, 1}),
        ("tumor", None, {1}),
        (["tumor"], True, {-1, 1}),
        (("normal", "tumor"), None, {0, 1}),
        ([], True, {-1}),
    ],
)
def test_patches_are_chosen_by_label(folder, truth, labels, unknown, wanted):
    data = PatchDataset(folder, labels=labels, unknown=unknown, with_info=True)
    expected = {place: label for place, (_, label) in truth.items() if label in wanted}
    assert {(info["file"], info["patch"]): label for _, label, info in data} == expected
    assert Counter(data.labels.tolist()) == Counter(expected.values())


def test_a_label_that_is_not_there_is_named_with_those_that_are(folder):
    with pytest.raises(UsageError, match="label 'tumour': the files have labels normal, tumor"):
        PatchDataset(folder, labels="tumour")


def test_files_of_a_patient_or_centre(folder):
    data = PatchDataset(folder)
    assert data.of(patient=0).slides == (f"{SLIDES[0]}.tif", f"{SLIDES[1]}.tif")
    assert data.of(centre=["1"], patient=[21, 33]).slides == (f"{SLIDES[2]}.tif", f"{SLIDES[3]}.tif")
    with pytest.raises(UsageError, match="patient 7: no file"):
        data.of(patient=[0, 7])
    with pytest.raises(UsageError, match="expected patient, node, centre"):
        data.of(hospital=1)


def test_who_does_not_say_the_patient_is_never_taken_for_another(folder, tmp_path):
    slide = write_slide(tmp_path / "biopsy.tif", [textured(256, 256)])
    path = write_patches_of(slide, tmp_path / "biopsy.patches.h5", order_of(64, 48), change=labelled_by(NAMES, thirds))
    with pytest.raises(InputError, match=r"biopsy\.patches\.h5: does not say its patient"):
        PatchDataset([folder, path]).of(patient=0)


@pytest.mark.parametrize("n", [2, 3])
def test_no_patient_is_in_two_folds_and_each_file_is_held_out_once(folder, n):
    folds = PatchDataset(folder, labels=NAMES).folds(n, seed=4)
    assert len(folds) == n
    held_out = [slide for _, held in folds for slide in held.slides]
    assert sorted(held_out) == [f"{name}.tif" for name in SLIDES]
    for rest, held in folds:
        patients = [{name.split("_")[1] for name in part.slides} for part in (rest, held)]
        assert patients[0].isdisjoint(patients[1])
        assert len(rest) + len(held) == 4 * 64
        assert set(held.labels) == {0, 1}
    assert [held.slides for _, held in PatchDataset(folder).folds(n, seed=4)] == [held.slides for _, held in folds]
    with pytest.raises(UsageError, match="patches of 3 patients only"):
        PatchDataset(folder).folds(4)


def test_a_table_of_folds_says_what_is_held_out(folder, tmp_path):
    table = tmp_path / "folds.csv"
    table.write_text("file,fold\n" + "".join(f"{name}.patches.h5,{n // 2}\n" for n, name in enumerate(SLIDES)))
    rest, held = PatchDataset(folder).apart(table, 1)
    assert (rest.slides, held.slides) == (
        tuple(f"{name}.tif" for name in SLIDES[:2]),
        tuple(f"{name}.tif" for name in SLIDES[2:]),
    )
    with pytest.raises(InputError, match="no fold 2"):
        PatchDataset(folder).apart(table, 2)


def test_folds_are_those_that_the_command_deals(folder):
    from pyramidai_mpi.patches.folds import fold_tallies
    from pyramidai_mpi.patches.tally import tally

    files = sorted(folder.iterdir())
    fold_of = fold_tallies([tally(path) for path in files], 3, 5, unknown_alone=True)
    expected = [tuple(SLIDES[n] + ".tif" for n, fold in enumerate(fold_of) if fold == held) for held in range(3)]
    assert [held.slides for _, held in PatchDataset(folder).folds(3, seed=5)] == expected


def test_one_slide_of_two_patients_is_refused_and_of_one_unknown_is_that_ones(tmp_path):
    slide = write_slide(tmp_path / "s.tif", [textured(256, 256)])
    other = write_slide(tmp_path / "t.tif", [textured(256, 256, 1)])

    def write(source, name, **origin):
        return write_patches_of(
            source, tmp_path / f"{name}.patches.h5", order_of(64, 64), change=labelled(NAMES, [0, 1], origin)
        )

    files = [write(slide, "a", patient="1"), write(slide, "b"), write(other, "c", patient="2")]
    for rest, held in PatchDataset(files).folds(2):
        assert sorted([rest.slides, held.slides]) == [("s.tif", "s.tif"), ("t.tif",)]
    with pytest.raises(InputError, match="are of one slide, and say that it is of patients 2 and 1"):
        PatchDataset([files[0], write(slide, "d", patient="2")]).folds(2)


def test_pictures_of_patches_are_read_alike(tmp_path):
    pictures = [bytes([n]) * (3 * 16 * 16) for n in range(9)]
    data = PatchDataset(write_pictures_of(pictures, tmp_path / "a.patches.h5", 16, "raw"), group=2, with_info=True)
    assert [data[n][0].tobytes() for n in range(9)] == pictures
    seen = {info["patch"]: pixels.tobytes() for pixels, _, info in data.shuffled(window=2)}
    assert seen == dict(enumerate(pictures))


def places(items):
    return [(info["file"], info["patch"]) for _, _, info in items]


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("window", [None, 1, 4])
def test_shares_of_shuffled_patches_are_each_patch_once_with_its_pixels(folder, truth, world, window):
    data = PatchDataset(folder, with_info=True)
    seen = []
    for rank in range(world):
        share = list(data.shuffled(seed=3, epoch=1, rank=rank, world=world, window=window))
        assert len(share) == data.share_size(seed=3, epoch=1, rank=rank, world=world)
        for pixels, label, info in share:
            assert (pixels.tobytes(), label) == truth[info["file"], info["patch"]]
        seen += places(share)
    assert sorted(seen) == sorted(truth)
    assert seen != sorted(seen)


def test_an_order_follows_from_seed_and_epoch_and_share(folder):
    data = PatchDataset(folder, labels="tumor", with_info=True)
    keys = [(0, 0), (0, 1), (1, 0)]
    orders = [places(data.shuffled(seed, epoch, window=2)) for seed, epoch in keys]
    assert orders == [places(data.shuffled(seed, epoch, window=2)) for seed, epoch in keys]
    assert len(set(map(tuple, orders))) == 3
    assert len(set(map(frozenset, orders))) == 1


def test_groups_are_read_whole_and_a_window_mixes_several(folder):
    data = PatchDataset(folder, with_info=True)
    order = [(file, patch // 20) for file, patch in places(data.shuffled(window=4))]
    sizes = Counter(order)
    first, met, members = 0, set(), set()
    while first < len(order):  # each window holds whole groups, and these nowhere else
        members, last = set(), first
        while len(members) < 4 and len(met) + len(members) < len(sizes):
            members.add(order[last])
            last += 1
        last = first + sum(sizes[group] for group in members)
        assert set(order[first:last]) == members
        assert members.isdisjoint(met)
        changes = sum(one != other for one, other in zip(order[first:last], order[first + 1 : last], strict=False))
        assert changes > 2 * len(members), "patches of a window come one group after the other"
        met |= members
        first = last
    assert len(met) == len(sizes) == 20


def test_what_is_yielded_stays_as_it_is(folder, truth):
    kept = list(PatchDataset(folder, with_info=True).shuffled(window=1))
    assert all(pixels.tobytes() == truth[info["file"], info["patch"]][0] for pixels, _, info in kept)


@pytest.mark.parametrize("wrong", [{"seed": -1}, {"epoch": -1}, {"rank": 2, "world": 2}, {"window": 0}])
def test_shares_that_cannot_be_are_refused_at_once(folder, wrong):
    with pytest.raises(UsageError):
        PatchDataset(folder).shuffled(**wrong)


def test_pixels_are_what_a_transform_makes_of_them(folder):
    data = PatchDataset(folder, transform=lambda pixels: pixels.mean())
    plain = PatchDataset(folder)
    assert data[5] == (plain[5][0].mean(), plain[5][1])
    assert next(data.shuffled())[0] == next(plain.shuffled())[0].mean()


def made(path, size=64, mpp=0.25, labels=NAMES, **others):
    slide = write_slide(path.with_suffix(".tif"), [textured(256, 256)], mpp=mpp)
    return write_patches_of(
        slide, path.with_suffix(".patches.h5"), order_of(size, 48, **others), change=labelled_by(labels, thirds)
    )


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"size": 80}, r"has patches of 80 px, .*a\.patches\.h5 of 64 px"),
        ({"mpp": 0.26}, r"has 0\.26 µm/px, .*a\.patches\.h5 0\.25 µm/px"),
        ({"labels": ("tumor", "normal")}, r"has labels tumor, normal; .*a\.patches\.h5 has normal, tumor"),
        ({"labels": ("tu{m}or", "{}")}, r"has labels tu\{m\}or, \{\}; .*a\.patches\.h5 has normal, tumor"),
        ({"pixels": "none"}, r"keeps coordinates alone"),
    ],
    ids=lambda one: next(iter(one)) if isinstance(one, dict) else "",
)
def test_files_that_do_not_fit_each_other_are_named(tmp_path, other, said):
    files = [made(tmp_path / "a"), made(tmp_path / "b", **other)]
    with pytest.raises(InputError, match=rf"b\.patches\.h5: {said}"):
        PatchDataset(files)


def test_spacings_may_differ_by_two_percent(tmp_path):
    assert len(PatchDataset([made(tmp_path / "a"), made(tmp_path / "b", mpp=0.2545)])) > 0


def test_a_file_twice_no_file_and_an_empty_folder_are_refused(folder, tmp_path):
    path = folder / f"{SLIDES[0]}.patches.h5"
    with pytest.raises(UsageError, match="named twice"):
        PatchDataset([folder, path])
    with pytest.raises(UsageError, match="no file"):
        PatchDataset([])
    with pytest.raises(InputError, match="holds no file of patches"):
        PatchDataset(tmp_path)


def test_a_file_that_was_replaced_meanwhile_is_noticed(tmp_path):
    path = made(tmp_path / "a")
    data = PatchDataset(path)
    made(tmp_path / "a", labels=("no", "yes"))
    with pytest.raises(InputError, match="holds other patches than when the data set was made"):
        data[0]


def test_few_files_are_open_at_once_and_what_was_decoded_is_kept_within_bounds(folder, truth, monkeypatch):
    monkeypatch.setattr(open_files, "MOST_OPEN", 2)
    data = PatchDataset(folder, with_info=True)
    for number in np.random.default_rng(0).permutation(len(data))[:100].tolist():
        pixels, _, info = data[number]
        assert pixels.tobytes() == truth[info["file"], info["patch"]][0]
        assert len(data._files._open) <= 2
    assert data._files._decoded.cache.n_bytes <= CACHE_BYTES


def test_a_file_that_is_dropped_while_a_thread_reads_is_read_to_the_end(folder, truth, monkeypatch):
    monkeypatch.setattr(open_files, "MOST_OPEN", 1)
    data = PatchDataset(folder, with_info=True)
    numbers = np.random.default_rng(1).permutation(len(data))[:120].tolist()
    with ThreadPoolExecutor(8) as pool:
        for pixels, label, info in pool.map(data.__getitem__, numbers):
            assert (pixels.tobytes(), label) == truth[info["file"], info["patch"]]


def _read_in_child(data, numbers, answer):
    answer.send([data[number][0].tobytes() for number in numbers])


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
@pytest.mark.parametrize("way", ["fork", "spawn"])
def test_a_child_reads_the_same_though_threads_of_its_parent_hold_all_locks(folder, way):
    data = PatchDataset(folder)
    numbers = list(range(0, len(data), 7))
    expected = [data[number][0].tobytes() for number in numbers]
    context = multiprocessing.get_context(way)
    here, there = context.Pipe()
    files = data._files
    if way == "fork":
        files._lock.acquire()
        files._decoded.lock.acquire()
    child = context.Process(target=_read_in_child, args=(data, numbers, there))
    child.start()
    answered = here.poll(60)
    if way == "fork":
        files._decoded.lock.release()
        files._lock.release()
    if not answered:
        child.kill()
    assert answered
    assert here.recv() == expected
    child.join()
    assert [data[number][0].tobytes() for number in numbers] == expected


def test_it_can_be_sent_to_another_process(folder, monkeypatch, tmp_path):
    monkeypatch.chdir(folder.parent)
    sent = pickle.dumps(PatchDataset(folder.name, labels="tumor"))
    monkeypatch.chdir(tmp_path)
    data, here = pickle.loads(sent), PatchDataset(folder, labels="tumor")
    assert len(data) == len(here)
    np.testing.assert_array_equal(data[40][0], here[40][0])


def test_any_patches_are_taken_in_the_order_that_is_asked_for(folder):
    with open_patches(folder / f"{SLIDES[0]}.patches.h5") as patches:
        numbers = np.array([50, 3, 3, 95, 0])
        np.testing.assert_array_equal(patches.take(numbers), np.stack([patches[number] for number in numbers]))
        assert patches.take(numbers[:0]).shape == (0, 64, 64, 3)
        for wrong in ([96], [-1]):
            with pytest.raises(IndexError):
                patches.take(np.array(wrong))


def test_a_file_that_nobody_uses_any_more_is_closed(folder):
    patches = OpenPatches(folder / f"{SLIDES[0]}.patches.h5")
    closing = patches._file._close
    assert closing.alive
    del patches
    assert not closing.alive


def test_the_package_has_it_and_it_needs_no_torch(folder):
    assert pyramidai_mpi.PatchDataset is PatchDataset
    code = (
        "import sys, pyramidai_mpi\n"
        f"data = pyramidai_mpi.PatchDataset({str(folder)!r})\n"
        "assert len(data[0]) == 2 and next(data.shuffled())[0].shape == (64, 64, 3)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0
