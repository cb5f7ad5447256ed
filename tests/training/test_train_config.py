"""``train --config``: options from YAML by their own names, and CamNet's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.core import ParameterSource

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.cli.train import command
from pyramidai_mpi.cli.train_config import of_camnet

if TYPE_CHECKING:
    import click

CAMNET = """[settings]
GPU = 0
slide_level = 7

[train]
model_type = resnet
loss = binary_crossentropy
activation = sigmoid
lr = 1e-4
decay =1e-6
momentum = 0.9
nesterov = True
batch_size = 32
epochs = 1
verbose = 1

[load]
PWD = /mnt/results
"""


def parsed(*words: str) -> click.Context:
    """The command's options after these words, without doing anything."""
    return command.make_context("train", ["s.tif", "-o", "out", *words])


def write(tmp_path, text: str, name: str = "c.yaml") -> str:
    (tmp_path / name).write_text(text)
    return str(tmp_path / name)


def test_options_of_a_file_count_where_the_command_line_says_nothing(tmp_path) -> None:
    text = "epochs: 7\nlearning-rate: 0.01\nnesterov: true\nclass_weights: [1, 4]\ndrop-at: [3, 5]\narch: small-valid\n"
    context = parsed("--config", write(tmp_path, text), "--epochs", "2")
    values = context.params
    assert (values["epochs"], values["learning_rate"], values["nesterov"]) == (2, 0.01, True)
    assert (values["class_weights"], values["drop_at"], values["arch"]) == ("1,4", "3,5", "small-valid")
    assert context.get_parameter_source("epochs") is ParameterSource.COMMANDLINE
    assert context.get_parameter_source("learning_rate") is ParameterSource.DEFAULT_MAP
    assert values["batch_size"] == 32


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning-rat: 0.1\n", "learning-rat is no option of train"),
        ("config: other.yaml\n", "config is no option"),
        ("epochs: {a: 1}\n", "epochs: expected a value"),
        ("- epochs\n", "expected lines such as"),
        ("a: [1\n", "not valid YAML"),
        ("epochs: 2.7\n", "epochs: 2.7: expected a whole number"),
        ("epochs: true\n", "epochs: true: expected a whole number"),
        ("epochs: .inf\n", "epochs: inf: expected a whole number"),
        ("learning-rate: yes\n", "learning-rate: true: expected a number"),
        ("nesterov: 3\n", "nesterov: 3: expected true or false"),
        ("truth: 5\n", "truth: 5: expected the name"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path, text, said) -> None:
    with pytest.raises(InputError, match=said):
        parsed("--config", write(tmp_path, text))


def test_a_file_of_another_encoding_is_refused_and_one_with_a_mark_of_its_encoding_is_read(tmp_path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes("# µm\nepochs: 2\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"is no text in UTF-8 \(byte 2\)"):
        parsed("--config", str(path))
    path.write_bytes("epochs: 2\n".encode("utf-8-sig"))
    assert parsed("--config", str(path)).params["epochs"] == 2


def test_values_are_checked_as_those_of_the_command_line(tmp_path) -> None:
    for text, said in (("epochs: many", "'many' is not a valid integer"), ("arch: vgg", "'vgg' is not one of"),
                       ("learning-rate: -1", "is not in the range")):  # fmt: skip
        with pytest.raises(InputError, match=rf"c\.yaml: {text.partition(':')[0]}: .*{said}"):
            parsed("--config", write(tmp_path, text))


def test_values_that_only_training_refuses_name_their_file(tmp_path) -> None:
    pytest.importorskip("torch", reason="training needs torch: pip install pyramidai_mpi[train]")
    path = write(tmp_path, "class-weights: 1,2,3")
    for words, said in ((["--config", path], rf"^{path}: --class-weights"), (["--class-weights", "x"], "^--class-w")):
        with pytest.raises(UsageError, match=said):
            command.main(["a.tif", "--truth", "t", "-o", "out", *words], standalone_mode=False)


def test_camnets_settings_are_taken_and_what_has_no_counterpart_is_named(tmp_path, capsys) -> None:
    values = parsed("--config", write(tmp_path, CAMNET, "config.cfg")).params
    assert (values["arch"], values["loss"], values["optimizer"]) == ("resnet50", "bce", "sgd")
    assert (values["learning_rate"], values["rate_decay"], values["momentum"]) == (1e-4, 1e-6, 0.9)
    assert (values["nesterov"], values["batch_size"], values["epochs"], values["decay"]) == (True, 32, 1, 0.0)
    said = capsys.readouterr().err
    assert said.endswith("has no counterpart here, and is left out: verbose, [settings], [load]\n")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("model", "arch"),
    [("inceptionv3", "inception_v3"), ("DenseNet121", "densenet121"), ("resnet101", "resnet101"), ("googlenet",) * 2],
)
def test_camnets_networks_have_their_names_here(tmp_path, model, arch) -> None:
    assert of_camnet(tmp_path, f"[train]\nmodel_type={model}\n")["arch"] == arch


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[other]\n", "a section \\[train\\]"),
        ("[train]\nmodel_type = vgg\n", "model_type vgg: expected one of resnet"),
        ("[train]\nloss = mse\n", "loss mse: expected binary_crossentropy"),
        ("no section", "a section \\[train\\]"),
    ],
)
def test_settings_that_are_not_camnets_are_refused(tmp_path, text, said) -> None:
    with pytest.raises(InputError, match=said):
        parsed("--config", write(tmp_path, text, "c.ini"))
