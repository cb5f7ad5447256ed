"""Folders of labelled pictures become files of patches that keep every byte of them."""

from __future__ import annotations

import os

import numpy as np
import pytest
from PIL import Image

from pyramidai_mpi.base.errors import ExitCode, InputError
from pyramidai_mpi.cli.main import run_command_line
from pyramidai_mpi.patches.database import open_patches
from pyramidai_mpi.patches.dataset import PatchDataset
from pyramidai_mpi.slides.readers.choice import open_slide
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.training.patch_files import LabelledFiles
from tests.tiffs import textured


def import_(*words: object) -> int:
    return run_command_line(["patches", "import", *map(str, words)])


@pytest.fixture
def folder(tmp_path):
    """Pictures of 32 px of two labels in three formats, and things that are none."""
    images = tmp_path / "tiles"
    for number, name in enumerate(("b/2.png", "b/1.jpg", "a/x.tif", "a/y.PNG", "a/=z.jpeg")):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(textured(32, 32, number)).save(images / name)
    (images / "README.md").write_text("tiles")
    (images / "a" / "Thumbs.db").write_text("none")
    (images / ".hidden").mkdir()
    return images


def test_pictures_are_kept_byte_by_byte_with_their_folders_names_as_labels(folder, tmp_path, capsys):
    assert import_("--images", folder, "-o", tmp_path, "--mpp", "0.5") == 0
    assert "tiles: 5 pictures, labels a, b" in capsys.readouterr().out
    path = tmp_path / "tiles.patches.h5"
    names = ["a/=z.jpeg", "a/x.tif", "a/y.PNG", "b/1.jpg", "b/2.png"]
    with PatchFile(path) as file:
        assert [file.picture(n) for n in range(5)] == [(folder / name).read_bytes() for name in names]
    with open_patches(path) as patches:
        assert [patches.label_names[n] for n in patches.table["label"]] == ["a", "a", "a", "b", "b"]
        assert (patches.coords == -1).all()
        assert (patches.header.settings.size, patches.header.settings.spacing) == (32, 0.5)
        for name, pixels in zip(names, patches, strict=True):
            with Image.open(folder / name) as picture:
                np.testing.assert_array_equal(pixels, np.asarray(picture))
    assert run_command_line(["patches", "verify", str(path)]) == 0
    assert run_command_line(["patches", "info", str(path)]) == 0
    said = capsys.readouterr().out
    assert "3 a, 2 b" in said
    assert "nan" not in said
    with pytest.raises(InputError, match="holds pictures, which are of no slide"):
        open_slide(path)


def test_a_network_is_not_trained_on_pixels_of_unknown_size(folder, tmp_path):
    assert import_("--images", folder, "-o", tmp_path) == 0
    with pytest.raises(InputError, match=r"how large its pixels are.*make it again with patches import --mpp"):
        LabelledFiles.read([tmp_path / "tiles.patches.h5"], None)


def test_other_pictures_are_another_file_and_the_same_are_the_same(folder, tmp_path):
    digests = []
    for n in range(3):
        if n == 2:
            Image.fromarray(textured(32, 32, 99)).save(folder / "a" / "y.PNG")
        (tmp_path / str(n)).mkdir()
        assert import_("--images", folder, "-o", tmp_path / str(n)) == 0
        with open_patches(tmp_path / str(n) / "tiles.patches.h5") as patches:
            digests.append((patches.digest, patches.header.slide.quickhash))
    assert digests[0] == digests[1]
    assert digests[0][0] != digests[2][0]
    assert digests[0][1] != digests[2][1]


def test_pictures_without_labels_are_exported_and_come_back_without(made, tmp_path, capsys):
    assert run_command_line(["patches", "export", str(made.plain), "--images", str(tmp_path / "i")]) == 0
    assert import_("--images", tmp_path / "i", "-o", tmp_path) == 0
    assert "i: 192 pictures; 192 of unknown label: " in capsys.readouterr().out
    with open_patches(tmp_path / "i.patches.h5") as back:
        assert back.label_names == ()
        assert (back.table["label"] == -1).all()


def test_a_table_says_which_are_whose(folder, tmp_path, capsys):
    table = tmp_path / "of.csv"
    table.write_text("File;label;Patient;scanner\na/x.tif;tumour;P2;1\nb/1.jpg;;P1;1\nb/2.png;normal;P2;2\n")
    assert import_("--images", folder, "--table", table, "-o", tmp_path) == 0
    assert "1 of unknown label" in capsys.readouterr().out
    found = {}
    for patient in ("P1", "P2"):
        with open_patches(tmp_path / f"{patient}.patches.h5") as patches:
            assert patches.origin == {"patient": patient}
            assert patches.label_names == ("normal", "tumour")
            found[patient] = patches.table["label"].tolist()
    assert found == {"P1": [-1], "P2": [1, 0]}


def test_pictures_that_were_exported_come_back_to_the_bit(made, tmp_path):
    assert run_command_line(["patches", "export", str(made.labelled), "--images", str(tmp_path / "i")]) == 0
    assert import_("--images", tmp_path / "i", "--table", tmp_path / "i/patches.csv", "-o", tmp_path) == 0
    with open_patches(made.labelled) as patches, open_patches(tmp_path / "24.patches.h5") as back:
        chosen = np.flatnonzero(made.labels >= 0)
        np.testing.assert_array_equal(np.stack(list(back)), np.stack([patches[n] for n in chosen]))
        names = [back.label_names[n] for n in back.table["label"]]
        assert names == [patches.label_names[n] for n in made.labels[chosen]]
        assert run_command_line(["patches", "export", str(back.header.slide.name), "--fda", "x"]) != 0


def test_data_sets_and_training_take_them_and_split_them_by_patient(tmp_path):
    lines = ["file,label,patient"]
    (tmp_path / "in").mkdir()
    for number in range(24):
        Image.fromarray(textured(16, 16, number)).save(tmp_path / "in" / f"{number}.png")
        lines.append(f"{number}.png,{'OSCC' if number % 3 else 'Normal'},P{number % 4}")
    table = tmp_path / "of.csv"
    table.write_text("\n".join(lines))
    (tmp_path / "out").mkdir()
    assert import_("--images", tmp_path / "in", "--table", table, "--mpp", "0.25", "-o", tmp_path / "out") == 0
    data = PatchDataset(tmp_path / "out")
    seen = {(data[n][0].tobytes(), data.label_names[data[n][1]]) for n in range(24)}
    assert seen == {(textured(16, 16, n).tobytes(), "OSCC" if n % 3 else "Normal") for n in range(24)}
    files = LabelledFiles.read([tmp_path / "out"], "OSCC")
    assert (files.size, files.spacing, files.counts()) == (16, 0.25, (8, 16))
    dealt = [path.name for paths in files.split(seed=0).values() for path in paths]
    assert sorted(dealt) == [f"P{n}.patches.h5" for n in range(4)]


def test_labels_that_spreadsheets_would_compute_come_back_as_they_were(tmp_path):
    for label in ("+", "-", "=a"):
        (tmp_path / "in" / label).mkdir(parents=True)
        Image.fromarray(textured(16, 16)).save(tmp_path / "in" / label / "1.png")
    assert import_("--images", tmp_path / "in", "-o", tmp_path) == 0
    assert (
        run_command_line(["patches", "export", str(tmp_path / "in.patches.h5"), "--images", str(tmp_path / "i")]) == 0
    )
    words = ("--images", tmp_path / "i", "--table", tmp_path / "i/patches.csv", "-o", tmp_path)
    assert import_(*words) == 0
    with open_patches(tmp_path / "i.patches.h5") as patches:
        assert patches.label_names == ("+", "-", "=a")
        assert patches.table["label"].tolist() == [0, 1, 2]


def test_pictures_of_no_slide_can_be_exported_where_no_place_is_asked_for(folder, tmp_path, capsys):
    assert import_("--images", folder, "-o", tmp_path) == 0
    path = tmp_path / "tiles.patches.h5"
    words = ["patches", "export", str(path)]
    assert run_command_line([*words, "--images", str(tmp_path / "i"), "--webdataset", str(tmp_path / "w")]) == 0
    assert sorted(each.name for each in (tmp_path / "i/a").iterdir()) == [f"tiles_{n:06d}.png" for n in range(3)]
    for kind in ("fda", "clam", "trident", "process"):
        assert run_command_line([*words, f"--{kind}", str(tmp_path / kind)]) == ExitCode.BAD_INPUT
        assert "holds pictures of no known slide" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: Image.fromarray(textured(33, 33)).save(a / "z.png"), "33 x 33 pixels, expected 32 x 32"),
        (lambda a: Image.fromarray(textured(32, 31)).save(a / "0.png"), "is 32 x 31 pixels; patches are squares"),
        (lambda a: Image.fromarray(textured(32, 32)[..., 0]).save(a / "z.png"), "not RGB"),
        (lambda a: (a / "z.png").write_bytes(b"no picture"), "z.png: "),
        (lambda a: (a / "0.png").write_bytes(b"no picture"), "is no PNG, JPEG or TIFF"),
        (lambda a: (a / "z.jpg").write_bytes((a / "=z.jpeg").read_bytes()[:-300]), "z.jpg: "),
    ],
    ids=["another size", "no square", "grey", "no picture", "the first is none", "cut"],
)
def test_a_picture_that_will_not_do_is_named(folder, tmp_path, capsys, spoil, said):
    spoil(folder / "a")
    (tmp_path / "out").mkdir()
    assert import_("--images", folder, "-o", tmp_path / "out") == ExitCode.BAD_INPUT
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
    assert not list((tmp_path / "out").iterdir())


def test_names_that_are_not_utf8_are_refused_and_not_kept(folder, tmp_path, capsys):
    (folder / "b").rename(os.fsdecode(os.fsencode(folder) + b"/l\xff"))
    table = tmp_path / "of.csv"
    table.write_bytes("file,patient\na/x.tif,M\xfcller\n".encode("latin-1"))
    for words in ([], ["--table", table]):
        assert import_("--images", folder, *words, "-o", tmp_path) == ExitCode.BAD_INPUT
        assert "is not in UTF-8; write it so" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.h5"))


def test_patients_with_dots_in_their_names_keep_them(folder, tmp_path):
    table = tmp_path / "of.csv"
    table.write_text("file,patient\na/x.tif,1.2.1\na/y.PNG,1.2.2\n")
    (tmp_path / "files").mkdir()
    assert import_("--images", folder, "--table", table, "-o", tmp_path / "files") == 0
    assert run_command_line(["patches", "export", str(tmp_path / "files"), "--images", str(tmp_path / "i")]) == 0
    assert sorted(each.name for each in (tmp_path / "i/a").iterdir()) == ["1.2.1_000000.png", "1.2.2_000000.png"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,label\na/x.tif,a\na/x.tif,b\n", "line 3: a/x.tif stands there twice"),
        ("file,label\na/none.png,a\n", "line 2: there is no a/none.png"),
        ("file,label\n../secret.png,a\n", "line 2: ../secret.png leads out of the folder"),
        ("name,label\na/x.tif,a\n", "has no column file"),
        ("file,label\na/x.tif,a,b\n", "line 2: has 3 cells, expected 2"),
        ("file,label\n", "names no picture"),
        ("file,file\na/x.tif,a\n", "names a column twice"),
        ("file,patient\na/x.tif,P\na/y.PNG,\n", "says no patient of a/y.PNG, but of others"),
        ("file,patient\na/x.tif,../P\n", "cannot be that of a file or folder"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused_with_its_line(folder, tmp_path, capsys, text, said):
    table = tmp_path / "of.csv"
    table.write_text(text)
    assert import_("--images", folder, "--table", table, "-o", tmp_path) == ExitCode.BAD_INPUT
    assert said in capsys.readouterr().err
    assert not list(tmp_path.glob("*.h5"))


def test_an_empty_folder_is_said(tmp_path, capsys):
    (tmp_path / "none").mkdir()
    assert import_("--images", tmp_path / "none", "-o", tmp_path) == ExitCode.BAD_INPUT
    assert "holds no pictures; looked for LABEL/*.png" in capsys.readouterr().err


@pytest.mark.real
def test_real_tiles_are_imported_as_they_are(real_tiles, tmp_path):
    tiles = [*real_tiles("Normal"), *real_tiles("OSCC")]
    assert import_("--images", tiles[0].parent.parent, "-o", tmp_path) == 0
    with PatchFile(tmp_path / "oral_cancer.patches.h5") as file:
        assert file.header.n_patches == len(tiles) == 464
        assert file.header.image_bytes == sum(path.stat().st_size for path in tiles)
        assert (file.patches["label"] == 0).sum() == 164
        assert file.picture(200) == tiles[200].read_bytes()
