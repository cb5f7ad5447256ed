"""A package is taken when it is what it says; else one line names the file and what was expected."""

from __future__ import annotations

import hashlib

import pytest
import yaml

from pyramidai_mpi.base.errors import InputError, PyramidError
from pyramidai_mpi.models.package import load_package
from pyramidai_mpi.models.stain.map import MacenkoTarget, ReinhardTarget
from tests.packages import write_package


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    """A sound package, never changed."""
    return write_package(tmp_path_factory.mktemp("models") / "sound")


@pytest.fixture
def package(tmp_path):
    """A sound package for a test to spoil."""
    return write_package(tmp_path / "model")


def spoil(folder, old: str, new: str) -> None:
    path = folder / "model.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(folder) -> str:
    with pytest.raises(InputError) as caught:
        load_package(folder)
    assert caught.value.exit_code == 65
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1000
    return str(caught.value)


def test_a_sound_package_is_read_as_written(sound):
    package = load_package(sound)
    assert (package.name, package.classes, package.positive_class) == ("colour", ("normal", "tumor"), 1)
    assert (package.tile_size, package.scale_factor, package.base_mpp, package.stain) == (64, 2, 0.25, "none")
    assert [level.threshold for level in package.levels] == [0.5, 0.4, 0.3]
    for n, level in enumerate(package.levels):
        assert level.level == n
        assert level.sha256 == hashlib.sha256((sound / f"level{n}.onnx").read_bytes()).hexdigest()
    assert package.yaml_text == (sound / "model.yaml").read_text()


def test_levels_may_stand_in_any_order(package):
    path = package / "model.yaml"
    document = yaml.safe_load(path.read_text())
    document["levels"].reverse()
    path.write_text(yaml.safe_dump(document))
    assert [level.level for level in load_package(package).levels] == [0, 1, 2]


@pytest.mark.parametrize(("written", "meant"), [("1e-3", 0.001), ("1.0e-3", 0.001), ("1", 1.0), ("0", 0.0)])
def test_a_threshold_may_be_written_as_any_number(package, written, meant):
    spoil(package, "threshold: 0.5", f"threshold: {written}")
    assert load_package(package).levels[0].threshold == meant


def test_thresholds_are_replaced_by_level(sound):
    package = load_package(sound)
    assert package.thresholds({}) == (0.5, 0.4, 0.3)
    assert package.thresholds({1: 0.9}) == (0.5, 0.9, 0.3)


def test_a_threshold_for_a_level_that_is_not_there_is_refused(sound):
    with pytest.raises(PyramidError, match=r"level 3.*0\.\.2"):
        load_package(sound).thresholds({3: 0.5})


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"method": "none"}, None),
        ({"method": "macenko"}, MacenkoTarget()),
        (
            {"method": "macenko", "target": {"hematoxylin": [1, 2, 3], "eosin": [4, 5, 6], "strengths": [7, 8]}},
            MacenkoTarget((1, 2, 3), (4, 5, 6), (7, 8)),
        ),
        (
            {"method": "reinhard", "target": {"mean": [-0.3, 0, 0.1], "std": [0.1, 0.2, 0.3]}},
            ReinhardTarget((-0.3, 0, 0.1), (0.1, 0.2, 0.3)),
        ),
    ],
    ids=["none", "macenko", "macenko to a target", "reinhard"],
)
def test_the_stains_target_is_what_the_description_says(tmp_path, entry, expected):
    package = load_package(write_package(tmp_path / "model", yaml_changes={"stain": entry}))
    assert (package.stain, package.stain_target) == (entry["method"], expected)


@pytest.mark.parametrize(("said", "meant"), [({}, "slide"), ({"per": "slide"}, "slide"), ({"per": "tile"}, "tile")])
def test_the_stain_is_the_slides_unless_the_description_says_each_tiles(tmp_path, said, meant):
    package = load_package(write_package(tmp_path / "model", yaml_changes={"stain": {"method": "macenko"} | said}))
    assert (package.stain, package.stain_target, package.stain_per) == ("macenko", MacenkoTarget(), meant)


@pytest.mark.parametrize("key", ["description", "stain", "input", "inputs", "decision"])
def test_optional_keys_may_be_absent(package, key):
    path = package / "model.yaml"
    document = yaml.safe_load(path.read_text())
    document.pop(key, None)
    path.write_text(yaml.safe_dump(document))
    load_package(package)


REQUIRED = ["format", "name", "classes", "positive_class", "tile_size", "scale_factor", "base_mpp", "levels"]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(package, key):
    path = package / "model.yaml"
    document = yaml.safe_load(path.read_text())
    del document[key]
    path.write_text(yaml.safe_dump(document))
    assert "model.yaml" in (line := refusal(package))
    assert repr(key) in line


# (in the file, instead, what the line must say beside the file's name)
BAD = {
    "unknown key": ("name: colour", "name: colour\ncolor: 3", ["unknown", "'color'"]),
    "unknown key of a level": ("level: 0", "treshold: 0.5\n  level: 0", ["levels[0]", "'treshold'"]),
    "unknown key of stain": ("method: none", "method: none\n  beta: 0.15", ["stain", "none"]),
    "unknown key of decision": ("type: threshold", "type: threshold\n  votes:", ["decision", "threshold"]),
    "unknown key of input": ("layout: NHWC", "layout: NHWC\n  size: 64", ["input", "NHWC"]),
    "duplicate key": ("name: colour", "name: colour\nname: other", ["'name'", "twice"]),
    "duplicate key of a level": ("level: 0", "level: 0\n  level: 0", ["'level'", "twice"]),
    "alias": ("classes:\n- normal\n- tumor", "classes: [&a normal, *a]", ["alias"]),
    "expanding aliases": (
        "name: colour",
        "name: colour\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nd: [*c, *c]",
        ["alias"],
    ),
    "merge key": ("name: colour", "name: colour\n<<: {description: x}", []),
    "key that is no text": ("name: colour", "name: colour\n3: x", ["3"]),
    "key that is a list": ("name: colour", "name: colour\n? [a, b]\n: x", []),
    "level missing": ("level: 1\n", "level: 5\n", ["[0, 2, 5]", "0..2"]),
    "level twice": ("level: 1\n", "level: 0\n", ["[0, 0, 2]", "0..2"]),
    "level below 0": ("level: 1\n", "level: -1\n", ["levels[1].level", "-1"]),
    "level as text": ("level: 1\n", "level: one\n", ["levels[1].level", "'one'"]),
    "threshold above 1": ("threshold: 0.5", "threshold: 1.5", ["levels[0].threshold", "1.5"]),
    "threshold below 0": ("threshold: 0.5", "threshold: -0.1", ["levels[0].threshold", "-0.1"]),
    "threshold not a number": ("threshold: 0.5", "threshold: .nan", ["levels[0].threshold", "nan"]),
    "threshold infinite": ("threshold: 0.5", "threshold: .inf", ["levels[0].threshold", "inf"]),
    "threshold true": ("threshold: 0.5", "threshold: true", ["levels[0].threshold", "True"]),
    "threshold none": ("threshold: 0.5", "threshold:", ["levels[0].threshold", "None"]),
    "threshold a word": ("threshold: 0.5", "threshold: half", ["levels[0].threshold", "'half'"]),
    "other format": ("pyramidai-model/1", "pyramidai-model/2", ["pyramidai-model/2", "pyramidai-model/1"]),
    "positive class unknown": ("positive_class: tumor", "positive_class: cancer", ["'cancer'", "'tumor'"]),
    "one class": ("classes:\n- normal\n- tumor", "classes: [tumor]", ["classes"]),
    "class twice": ("classes:\n- normal\n- tumor", "classes: [tumor, tumor]", ["classes", "twice"]),
    "classes as text": ("classes:\n- normal\n- tumor", "classes: tumor", ["classes"]),
    "class that is a number": ("classes:\n- normal\n- tumor", "classes: [0, tumor]", ["classes"]),
    "tile size a fraction": ("tile_size: 64", "tile_size: 64.5", ["tile_size", "64.5"]),
    "tile size 0": ("tile_size: 64", "tile_size: 0", ["tile_size", "0"]),
    "tile size huge": ("tile_size: 64", "tile_size: 1000000", ["tile_size", "1000000"]),
    "tile size true": ("tile_size: 64", "tile_size: true", ["tile_size", "True"]),
    "scale factor 1": ("scale_factor: 2", "scale_factor: 1", ["scale_factor", "1"]),
    "spacing 0": ("base_mpp: 0.25", "base_mpp: 0", ["base_mpp", "0"]),
    "spacing below 0": ("base_mpp: 0.25", "base_mpp: -0.25", ["base_mpp", "-0.25"]),
    "spacing endless": ("base_mpp: 0.25", "base_mpp: .inf", ["base_mpp"]),
    "spacing of 400 digits": ("base_mpp: 0.25", "base_mpp: " + "1" * 400, ["base_mpp"]),
    "number of 5000 digits": ("tile_size: 64", "tile_size: " + "1" * 5000, []),
    "stain not there yet": ("method: none", "method: vahadane", ["stain", "vahadane"]),
    "stain without its target": ("method: none", "method: reinhard", ["stain", "mean and std"]),
    "stain of two numbers": (
        "method: none",
        "method: macenko\n  target: {hematoxylin: [1, 2], eosin: [1, 1, 1], strengths: [1, 1]}",
        ["hematoxylin", "3 numbers above 0"],
    ),
    "stain per patch": ("method: none", "method: macenko\n  per: patch", ["per of stain", "'patch'", "slide or tile"]),
    "stain per many": ("method: none", "method: macenko\n  per: [tile]", ["per of stain", "['tile']"]),
    "no stain per tile": ("method: none", "method: none\n  per: tile", ["stain", "none"]),
    "stain without spread": (
        "method: none",
        "method: reinhard\n  target: {mean: [-0.3, 0, 0], std: [0.1, 0, 0.1]}",
        ["std", "3 numbers above 0"],
    ),
    "other layout": ("layout: NHWC", "layout: NCHW", ["input", "NCHW", "NHWC"]),
    "other type": ("dtype: uint8", "dtype: float32", ["input", "float32", "uint8"]),
    "layout a list": ("layout: NHWC", "layout: [NHWC]", ["input", "NHWC"]),
    "other inputs": ("inputs: []", "inputs: [age]", ["inputs", "age", "position"]),
    "reserved decision": ("type: threshold", "type: vote", ["decision", "vote"]),
    "wrong hash": ("sha256: ", "sha256: 0000", ["level0.onnx", "SHA-256"]),
    "network missing": ("onnx: level1.onnx", "onnx: level9.onnx", ["level9.onnx", "missing"]),
    "path up": ("onnx: level0.onnx", "onnx: ../model/level0.onnx", ["levels[0].onnx"]),
    "absolute path": ("onnx: level0.onnx", "onnx: /etc/passwd", ["levels[0].onnx"]),
    "folder below": ("onnx: level0.onnx", "onnx: nets/level0.onnx", ["levels[0].onnx"]),
    "path of Windows": ("onnx: level0.onnx", "onnx: '..\\level0.onnx'", ["levels[0].onnx"]),
    "the folder itself": ("onnx: level0.onnx", "onnx: '..'", ["levels[0].onnx"]),
    "name with a zero byte": ("onnx: level0.onnx", 'onnx: "level0\\0.onnx"', []),
    "name of 5000 letters": ("onnx: level0.onnx", "onnx: " + "a" * 5000, ["levels[0].onnx"]),
    "no levels": ("levels:", "levels: []\ndescription:", ["levels", "1 to 15"]),
    "levels as a mapping": ("levels:", "levels: {a: 1}\ndescription:", ["levels"]),
    "name a number": ("name: colour", "name: 3", ["name", "3"]),
    "name empty": ("name: colour", "name: ''", ["name"]),
    "a date that is none": ("name: colour", "name: 2001-99-99", []),
    "a tag that does not fit": ("name: colour", "name: !!int colour", []),
    "a boolean that is none": ("name: colour", "name: !!bool perhaps", []),
    "a time that is none": ("name: colour", "name: !!timestamp soon", []),
    "a mapping that is a list": ("name: colour", "name: !!map [a]", []),
    "an object of Python": ("name: colour", "name: !!python/object/apply:os.getpid []", []),
    "two documents": ("name: colour", "name: colour\n---\nname: other", []),
    "tab and bracket": ("name: colour", "name: [colour\n\t}", []),
    "control character": ("name: colour", 'name: "a\x07"', []),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_description_is_refused_in_one_line_that_names_the_file(package, case):
    old, new, words = BAD[case]
    spoil(package, old, new)
    line = refusal(package)
    assert str(package) in line
    assert [word for word in words if word not in line] == []


@pytest.mark.parametrize(
    "text",
    ["", "# nothing\n", "- a\n- b\n", "just text", "3", "null"],
    ids=["empty", "comment", "list", "text", "number", "null"],
)
def test_a_description_that_is_no_mapping_is_refused(package, text):
    (package / "model.yaml").write_text(text)
    assert "mapping" in refusal(package)


@pytest.mark.parametrize(
    "text",
    ["[" * 20_000, "[" * 10_000 + "]" * 10_000, "{a: " * 30_000, "".join(" " * i + "- \n" for i in range(1200))],
    ids=["open brackets", "brackets", "mappings", "indented"],
)
def test_a_deeply_nested_description_does_not_crash(package, text):
    (package / "model.yaml").write_text(text)
    assert "model.yaml" in refusal(package)


def test_a_description_that_is_no_text_is_refused(package):
    (package / "model.yaml").write_bytes(b"name: \xff\xfe\x00")
    assert "model.yaml" in refusal(package)


def test_a_description_of_more_than_a_mebibyte_is_refused_unread(package):
    with (package / "model.yaml").open("a") as file:
        file.write("# " + "x" * 2**20)
    assert "1 MiB" in refusal(package)


def test_a_changed_network_is_refused_by_its_hash(package):
    path = package / "level2.onnx"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    line = refusal(package)
    assert "level2.onnx" in line
    assert hashlib.sha256(data).hexdigest()[:16] in line


def test_a_folder_in_place_of_a_network_is_refused(package):
    (package / "level0.onnx").unlink()
    (package / "level0.onnx").mkdir()
    assert "level0.onnx" in refusal(package)


def test_what_is_no_package_is_refused(tmp_path):
    assert "no such model folder" in refusal(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    assert "file" in refusal(tmp_path / "file")
    assert "model.yaml" in refusal(tmp_path)


def test_the_shipped_model_is_a_sound_package():
    from pyramidai_mpi.models.shipped import default_model

    try:
        folder = default_model()
    except InputError:
        pytest.skip("no shipped model is built yet")
    package = load_package(folder)
    assert package.n_levels == 3
    assert package.base_mpp == 0.25


def test_keys_are_compared_a_few_times_each_however_many_there_are(package, monkeypatch):
    n_compared = 0

    class Watched(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            nonlocal n_compared
            n_compared += 1
            return str.__eq__(self, other)

    plain = yaml.SafeLoader.construct_object

    def construct(self, node, deep=False):
        value = plain(self, node, deep)
        return Watched(value) if isinstance(value, str) else value

    monkeypatch.setattr(yaml.SafeLoader, "construct_object", construct)
    with (package / "model.yaml").open("a") as file:
        file.writelines(f"key{n}: 0\n" for n in range(2000))
    assert "unknown key" in refusal(package)
    assert n_compared < 10 * 2000
