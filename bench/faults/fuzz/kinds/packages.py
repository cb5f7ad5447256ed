"""Descriptions of models (ours, WSInfer's, of networks that segment) and the settings of a training."""

from __future__ import annotations

import contextlib
import io
import json
from typing import TYPE_CHECKING

import yaml

from bench.faults.fuzz.documents import mutate_json, mutate_yaml
from bench.faults.fuzz.target import Target
from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.segmentation_package import is_segmentation_package, load_segmentation_package
from pyramidai_mpi.models.stain.entry import stain_entry
from pyramidai_mpi.models.stain.map import MacenkoTarget

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_NETWORK = b"a network's file is not looked into here"
_NAMES = ("level0.onnx", "level1.onnx", "network.onnx", "aggregator.onnx")


def _read_model(data: bytes, folder: Path) -> None:
    """An input of ``{`` is WSInfer's config, any other ours."""
    is_json = data[:1] == b"{"
    (folder / ("config.json" if is_json else "model.yaml")).write_bytes(data)
    for name in _NAMES[:1] if is_json else _NAMES:
        (folder / name).write_bytes(_NETWORK)
    if is_segmentation_package(folder):
        load_segmentation_package(folder)
        return
    package = read_package(folder, check_files=False)
    package.thresholds({})
    package.stamp()


def _model_seeds(folder: Path) -> dict[str, bytes]:
    import hashlib

    from bench.speed.tiny_network import write_tiny_package

    sha256 = hashlib.sha256(_NETWORK).hexdigest()
    ours = yaml.safe_load((write_tiny_package(folder / "tiny", tile_size=64) / "model.yaml").read_text())
    more = ours | {
        "stain": stain_entry(MacenkoTarget()),
        "decision": {"type": "band", "low": 0.2, "high": 0.8, "step": 0.1, "strides": [16, 32]},
        "aggregator": {
            "onnx": "aggregator.onnx", "sha256": sha256, "method": "abmil", "task": "binary", "classes": ["normal",
            "tumor"],
        },
        "inputs": ["position"],
        "quantisation": {"max_difference": 0.01},
        "intended_use": "benchmark",
        "tuning": {"anything": [1, 2]},
    }  # fmt: skip
    encoder = {key: ours[key] for key in ("format", "name", "tile_size", "scale_factor", "base_mpp")}
    encoder |= {"classes": [], "levels": [{"level": 0, "onnx": "level0.onnx", "sha256": sha256}]}
    segments = {
        "format": "pyramidai-segmentation/1", "name": "s", "classes": ["background", "tissue"], "mpp": 8.0,
        "total_stride": 8,
        "halo": 64, "threshold": 0.5, "intended_use": None, "onnx": "network.onnx", "sha256": sha256,
        "description": "d",
    }  # fmt: skip
    wsinfer = {
        "spec_version": "1.0", "architecture": "resnet34", "num_classes": 2, "class_names": ["notumor", "tumor"],
        "patch_size_pixels": 350, "spacing_um_px": 0.25,
        "transform": [
            {"name": "Resize", "arguments": {"size": 224}}, {"name": "ToTensor"},
            {"name": "Normalize", "arguments": {"mean": [0.7, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}},
        ],
    }  # fmt: skip
    documents = {"ours": ours, "more": more, "encoder": encoder, "segments": segments}
    seeds = {name: yaml.safe_dump(one, default_flow_style=None).encode() for name, one in documents.items()}
    return seeds | {"wsinfer": json.dumps(wsinfer).encode()}


def _mutate_model(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    return (mutate_json if data[:1] == b"{" else mutate_yaml)(data, chance, blind)


def _read_config(data: bytes, folder: Path) -> None:
    """Settings of ``train``: of CamNet when they begin as its .ini does, else ours in YAML."""
    import click

    from pyramidai_mpi.cli.train import command

    path = folder / ("settings.ini" if data[:1] in {b"[", b"#"} else "settings.yaml")
    path.write_bytes(data)
    context = click.Context(command, info_name="train")
    option = next(option for option in command.params if option.name == "config")
    with context, contextlib.redirect_stderr(io.StringIO()):
        try:
            assert option.callback is not None
            option.callback(context, option, path)
        except click.UsageError as error:
            raise InputError(str(error)) from error


def _config_seeds(_: Path) -> dict[str, bytes]:
    return {
        "ours": b"learning-rate: 0.001\nepochs: 3\nbatch-size: 16\nclass-weights: [1, 4]\narch: compact\nseed: 7\n",
        "flags": b"resume: true\noptimizer: sgd\nnesterov: yes\nmomentum: 0.9\nwork: folder\n",
        "camnet": b"[train]\nmodel_type = InceptionV3\nlr = 0.01\nloss = binary_crossentropy\n[data]\nx = 1",
    }


MODEL = Target(
    _read_model,
    _model_seeds,
    _mutate_model,
    most_bytes=1 << 14,
    words=(
        *(
            b"levels:",
            b"onnx:",
            b"sha256:",
            b"classes:",
            b"!!python/object:",
            b"!!timestamp ",
            b"!!binary ",
            b"&a",
            b"*a",
        ),
        *(
            b"<<: ",
            b"2001-99-99",
            b".inf",
            b".nan",
            b"1e-3",
            b"? ",
            b"- ",
            b"0x",
            b"0b1",
            b"1:30:00",
            b"positive_class: ",
        ),
    ),
)
CONFIG = Target(
    _read_config,
    _config_seeds,
    mutate_yaml,
    words=(
        b"[train]",
        b"%(x)s",
        b"&a",
        b"*a",
        b"<<: ",
        b"2001-99-99",
        b".inf",
        b".nan",
        b"!!binary ",
        b"!!int ",
        b"= ",
    ),
)
