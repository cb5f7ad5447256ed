"""``pyramidai train --config``: options from a file, by their own names in YAML or by CamNet's in its .ini."""

from __future__ import annotations

import configparser
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.shortened import shortened
from pyramidai_mpi.cli.launcher import launched_rank

if TYPE_CHECKING:
    from collections.abc import Callable

_SECTION = "train"
_NETWORKS = {
    "resnet": "resnet50",
    "resnet50": "resnet50",
    "resnet18": "resnet18",
    "resnet101": "resnet101",
    "inceptionv3": "inception_v3",
    "googlenet": "googlenet",
    "densenet121": "densenet121",
    "inceptionresnetv2": "inception_resnet_v2",
}
"""By what CamNet calls them, without regard to case and lines between the words."""
_NAMES = {
    "lr": "learning-rate",
    "decay": "rate-decay",  # of Keras' SGD: of the learning rate, by the step
    "momentum": "momentum",
    "nesterov": "nesterov",
    "batch_size": "batch-size",
    "epochs": "epochs",
}
_LOSSES = {"binary_crossentropy": "bce"}


def config_option(function: Callable[..., int]) -> Callable[..., int]:
    """Add ``--config``. What the command line says goes before what the file says; the command hears only of that."""

    @wraps(function)
    def with_config(*args: Any, config: Path | None, **values: Any) -> int:
        try:
            return function(*args, **values)
        except UsageError as error:
            raise _of_file(config, error) from error

    return click.option(
        "--config",
        type=click.Path(path_type=Path, readable=False),
        metavar="FILE",
        is_eager=True,
        callback=_take_in,
        help="Options by their names in YAML (learning-rate: 0.001), or CamNet's [train] of an .ini or .cfg file; the "
        "command line goes before.",
    )(with_config)


def _of_file(path: Path | None, error: UsageError) -> UsageError:
    """The same error, with the file in front of it where the option that it begins with stands there."""
    named = str(error).partition(" ")[0].rstrip(":").removeprefix("--").replace("-", "_")
    said_by = click.get_current_context().get_parameter_source(named)
    if path is None or said_by is not ParameterSource.DEFAULT_MAP:
        return error
    found = UsageError(f"{path}: {error}")
    found.agreed = error.agreed
    return found


def _take_in(context: click.Context, _option: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    with input_errors(path):
        content = path.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text in UTF-8 (byte {error.start}); save it as such") from error
    is_ini = path.suffix.lower() in {".ini", ".cfg"}
    values = of_camnet(path, text) if is_ini else _of_yaml(path, text)
    known = {
        max(option.opts, key=len).removeprefix("--"): option
        for option in context.command.params
        if isinstance(option, click.Option) and option.name not in {"config", "help"}
    }
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(
            f"{path}: {shortened(unknown[0])} is no option of {context.command_path}; see its --help for their names"
        )
    for name, value in values.items():
        _check_kind(path, name, known[name], value)
        try:
            known[name].type_cast_value(context, value)
        except click.UsageError as error:
            said = error.message.replace(str(value), shortened(str(value)))
            raise InputError(f"{path}: {name}: {said}") from error
        except (ValueError, OverflowError) as error:  # a name with a zero byte, a number beyond all numbers
            said = shortened(str(error))
            raise InputError(f"{path}: {name}: {said}; expected what the option --{name} takes") from error
    context.default_map = {str(known[name].name): value for name, value in values.items()}
    return path


def _check_kind(path: Path, name: str, option: click.Option, value: Any) -> None:
    """Refuse what click would make something else of: 2.7 or true as a whole number, a number as a file's name.

    Raises
    ------
    InputError
        The value is of another kind than the option's.
    """
    if option.is_flag:
        is_right, expected = isinstance(value, bool | str), "true or false"
    elif isinstance(option.type, click.types.IntParamType):
        is_right = isinstance(value, int | str) or float(value).is_integer()
        is_right, expected = is_right and not isinstance(value, bool), "a whole number"
    elif isinstance(option.type, click.types.FloatParamType):
        is_right, expected = not isinstance(value, bool), "a number"
    elif isinstance(option.type, click.Path):
        is_right, expected = isinstance(value, str), "the name of a file or folder, in quotes where it is a number"
    else:
        return
    if not is_right:
        raise InputError(
            f"{path}: {name}: {shortened(str(value).lower())}: expected {expected}, as the option --{name} takes"
        )


def _of_yaml(path: Path, text: str) -> dict[str, Any]:
    from pyramidai_mpi.models.description import read_yaml

    found = read_yaml(path, text)
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected lines such as learning-rate: 0.001")
    values: dict[str, Any] = {}
    for name, value in found.items():
        if isinstance(value, list) and all(isinstance(one, int | float | str) for one in value):
            value = ",".join(map(str, value))  # as --class-weights 1,4
        if not isinstance(value, bool | int | float | str):
            which = shortened(str(name))
            raise InputError(f"{path}: {which}: expected a value, as the option --{which} takes one")
        values[str(name).replace("_", "-")] = value
    return values


def of_camnet(path: Path, text: str) -> dict[str, Any]:
    """Options by their names that CamNet's settings stand for; names in one line what has no counterpart.

    Raises
    ------
    InputError
        When there is no ``[train]``, or its network or loss is unknown.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text)
        section = dict(parser[_SECTION])
    except (configparser.Error, KeyError) as error:
        raise InputError(f"{path}: expected CamNet's settings, with a section [train]") from error
    values: dict[str, Any] = {"optimizer": "sgd"}  # CamNet has no other
    if "model_type" in section:
        word = section.pop("model_type")
        name = word.lower().replace("_", "").replace("-", "")
        if name not in _NETWORKS:
            raise InputError(f"{path}: model_type {shortened(word)}: expected one of {', '.join(_NETWORKS)}")
        values["arch"] = _NETWORKS[name]
    if "loss" in section:
        word = section.pop("loss")
        if word not in _LOSSES:
            raise InputError(f"{path}: loss {shortened(word)}: expected {' or '.join(_LOSSES)}")
        values["loss"] = _LOSSES[word]
    if section.get("activation") == "sigmoid":  # which all our networks end in
        del section["activation"]
    for name in list(section):
        if name in _NAMES:
            values[_NAMES[name]] = section.pop(name)
    without = [*section, *(f"[{other}]" for other in parser.sections() if other != _SECTION)]
    if without and launched_rank() == 0:
        click.echo(f"{path}: has no counterpart here, and is left out: {', '.join(without)}", err=True)
    return values
