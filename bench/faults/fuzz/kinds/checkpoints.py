"""Checkpoints of trainings, files of weights, tiles kept by a training, and classifiers of slides."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.faults.fuzz.archives import mutate_zip
from bench.faults.fuzz.documents import mutate_json
from bench.faults.fuzz.target import Target
from pyramidai_mpi.base.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_FACTS = {"seed": 7, "classes": ["normal", "tumor"], "learning-rate": 0.001}


def _read_checkpoint(data: bytes, folder: Path) -> None:
    """The first byte says what it is: a state, weights, the same as safetensors, a table of tiles, made-up facts."""
    from pyramidai_mpi.training.convert.state_file import read_state
    from pyramidai_mpi.training.exact.checkpoint import Checkpoint, digest_of

    which, content = data[:1] or b"\0", data[1:]
    kind = which[0] % 5
    path = folder / ("weights.safetensors" if kind == 2 else "state.pt")
    path.write_bytes(_saved(content) if kind == 4 else content)
    if kind in {0, 4}:
        state = Checkpoint(path, _FACTS).load()
        assert state is not None
        digest_of(state)
    elif kind < 3:
        for value in read_state(path).values():
            _ = tuple(value.shape), value.dtype
    else:
        _read_tiles(path)


def _saved(document: bytes) -> bytes:
    """What torch saves of a JSON document, whose word "tensor" stands for one."""
    import torch

    def meant(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: meant(one) for key, one in value.items()}
        if isinstance(value, list):
            return [meant(one) for one in value]
        return torch.ones(2, 3) if value == "tensor" else value

    try:
        content = meant(json.loads(document))
        with io.BytesIO() as file:
            torch.save(content, file)
            return file.getvalue()
    except (ValueError, RecursionError, OverflowError, UnicodeError):
        return document


def _read_tiles(path: Path) -> None:
    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.tile_store import Source, TileStore

    source = Source(path.with_name("slide.tif"), "mark")
    path.replace(source.file(path.parent, ".npz"))
    np.save(source.file(path.parent, "-level0.npy"), np.zeros((3, 8, 8, 3), np.uint8))

    class Drawn:
        def sources(self, _: object) -> list[Source]:
            return [source]

        def draw_one(self, _: object) -> list[object]:
            raise InputError("is not drawn anew")

    store = TileStore(path.parent, 1)
    store.draw(UnitPool(None), Drawn(), [source.path])  # type: ignore[arg-type]
    store.of([source.path], 0, 0).pixels[slice(0, 2)]


def _checkpoint_seeds(folder: Path) -> dict[str, bytes]:
    import torch

    from pyramidai_mpi.training.exact.checkpoint import Checkpoint

    path = folder / "state.pt"
    Checkpoint(path, _FACTS).save({"network": {"a.weight": torch.ones(2, 3)}, "step": 5, "rate": 0.5}, (1, 2))
    weights = {"a.weight": torch.ones(2, 3), "a.bias": torch.zeros(2, dtype=torch.float16)}
    seeds = {"state": b"\0" + path.read_bytes()}
    for name, state in (
        ("weights", weights),
        ("wrapped", {"state_dict": {f"module.{key}": value for key, value in weights.items()}}),
    ):
        with io.BytesIO() as file:
            torch.save(state, file)
            seeds[name] = b"\1" + file.getvalue()
    try:
        from safetensors.torch import save
    except ImportError:
        pass
    else:
        seeds["safetensors"] = b"\2" + save(weights)
    state = {"facts": _FACTS, "moment": [1, 2], "state": {"network": {"a": "tensor"}, "step": 5, "x": "tensor"}}
    seeds["facts"] = b"\4" + json.dumps(state).encode()
    with io.BytesIO() as file:
        np.savez(file, positive0=np.array([True, False, True]), position0=np.zeros((3, 2), np.float32))
        seeds["tiles"] = b"\3" + file.getvalue()
    return seeds


def _mutate_checkpoint(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    which, content = data[:1], data[1:]
    if which and which[0] % 5 == 4:
        return which + mutate_json(content, chance, blind)
    if which and which[0] % 5 == 2 and len(content) > 8:
        end = 8 + int.from_bytes(content[:8], "little")
        head = mutate_json(content[8:end], chance, blind)
        return which + len(head).to_bytes(8, "little") + head + content[end:]
    return which + mutate_zip(_mutate_pickle)(content, chance, blind)


_OPCODES = b"(.0123FINKMBTUSXVRPQhijqrlepdsutabco}])\x80\x81\x82\x85\x86\x87\x88\x89\x8a\x8b\x93\x94\x95"


def _mutate_pickle(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """An opcode in the place of a byte, now and then."""
    if not data or chance.random() < 0.5:
        return blind(data)
    place = chance.randrange(len(data))
    return data[:place] + bytes([chance.choice(_OPCODES)]) + data[place + chance.randrange(2) :]


def _read_classifier(data: bytes, folder: Path) -> None:
    from pyramidai_mpi.classification.features import feature_names
    from pyramidai_mpi.classification.storage import load_classifier

    path = folder / "a.skops"
    path.write_bytes(data)
    classifier = load_classifier(path)
    n_features = len(feature_names(classifier.kind, classifier.bins))
    classifier.forest.predict(np.zeros((1, n_features)))


def _classifier_seeds(folder: Path) -> dict[str, bytes]:
    from pyramidai_mpi.classification.classifier import SlideClassifier
    from pyramidai_mpi.classification.features import FeatureKind, feature_names
    from pyramidai_mpi.classification.forest import Forest
    from pyramidai_mpi.classification.storage import save_classifier

    kind = next(iter(FeatureKind))
    i4 = np.int32
    forest = Forest(
        n_features=len(feature_names(kind, 3)), roots=np.array([0], i4), left=np.array([1, -1, -1], i4),
        right=np.array([2, -1, -1], i4), feature=np.array([0, -1, -1], i4), threshold=np.array([0.5, 0, 0]),
        share=np.array([0.5, 0.0, 1.0]),
    )  # fmt: skip
    made = SlideClassifier(kind=kind, bins=3, forest=forest, level_sha256=("ab",), runs=("r",), n_tumor=1, n_normal=1)
    save_classifier(made, folder / "a.skops")
    return {"classifier": (folder / "a.skops").read_bytes()}


def _mutate_member(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    return mutate_json(data, chance, blind) if data[:1] == b"{" else blind(data)


CHECKPOINTS = Target(_read_checkpoint, _checkpoint_seeds, _mutate_checkpoint, memory_mib=1024, most_bytes=1 << 13)
CLASSIFIERS = Target(
    _read_classifier, _classifier_seeds, mutate_zip(_mutate_member), memory_mib=1024, most_bytes=1 << 14
)
