"""Whatever a model.yaml says, it is a package or one line for the user: no other error, no code of its own, no bomb."""

from __future__ import annotations

import copy
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.package import ModelPackage, load_package
from tests.packages import write_package


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A sound package, whose description is rewritten again and again."""
    folder = write_package(tmp_path_factory.mktemp("fuzz") / "m")
    shutil.copy(folder / "model.yaml", folder / "sound")
    return folder


@pytest.fixture(scope="module")
def sound(package):
    """Its description."""
    return (package / "sound").read_text()


def load(package, data):
    """The package that these bytes describe, or None where they are refused as they should be."""
    (package / "model.yaml").write_bytes(data)
    try:
        loaded = load_package(package)
    except InputError as error:
        assert str(error).startswith(str(package))
        assert "\n" not in str(error)
        return None
    assert isinstance(loaded, ModelPackage)
    assert all(0 <= level.threshold <= 1 for level in loaded.levels)
    assert all(level.onnx_path.parent == package for level in loaded.levels)
    assert loaded.name.isprintable()
    assert 0 < loaded.base_mpp < 1e7
    return loaded


SYNTAX = st.sampled_from([
    *"[]{}:,-?!&*#|>'\"%@`\n\t ~=<", "!!python/object/apply:os.system", "&a", "*a", "<<", "- ", ": ", "!!", "1e-3",
    ".inf", "0o17", "2001-99-99", "!!binary", "---", "...",
])  # fmt: skip


@given(st.lists(SYNTAX | st.text(max_size=4), max_size=30).map("".join))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_any_text_is_refused_in_one_line(package, text):
    assert load(package, text.encode(errors="surrogatepass")) is None


@given(st.data())
def test_a_description_with_bytes_put_in_or_cut_out_is_a_package_or_one_line(package, sound, data):
    text = sound.encode()
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 6))
        text = text[:place] + data.draw(st.binary(max_size=3) | SYNTAX.map(str.encode)) + text[place + cut :]
    load(package, text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.binary(max_size=4) | st.dates(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places_of(value, place=()):
    """All places of a document, as paths."""
    yield place
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from places_of(value[key], (*place, key))


@given(st.data())
def test_a_description_with_another_value_anywhere_is_a_package_or_one_line(package, sound, data):
    document = yaml.safe_load(sound)
    place = data.draw(st.sampled_from([p for p in places_of(document) if p]))
    changed = copy.deepcopy(document)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = data.draw(VALUES)
    load(package, yaml.safe_dump(changed).encode())


def test_code_in_a_description_does_not_run(package, tmp_path):
    target = tmp_path / "was here"
    text = f"!!python/object/apply:os.system ['touch {target}']\n"
    assert load(package, text.encode()) is None
    assert not target.exists()


def test_an_alias_bomb_is_refused_at_its_first_alias(package):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(12)]
    (package / "model.yaml").write_text("\n".join(lines))
    with pytest.raises(InputError, match="aliases"):
        load_package(package)
