"""Model packages: the folder with ``model.yaml`` and one ONNX file per level, parsed and checked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.errors import InputError, UsageError, input_errors
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.models.aggregator_entry import parse_aggregator
from pyramidai_mpi.models.decision_entry import parse_decision
from pyramidai_mpi.models.description import YAML_NAME, read_description
from pyramidai_mpi.models.description import mapping_at as _mapping
from pyramidai_mpi.models.description import number_at as _number
from pyramidai_mpi.models.description import text_at as _text
from pyramidai_mpi.models.description import whole_at as _whole
from pyramidai_mpi.models.stain.entry import parse_stain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pyramidai_mpi.models.aggregator_entry import AggregatorEntry
    from pyramidai_mpi.models.stain.map import StainTarget
    from pyramidai_mpi.pyramid.refining import Band

FORMAT = "pyramidai-model/1"
_REQUIRED = frozenset({"format", "name", "classes", "tile_size", "scale_factor", "base_mpp", "levels"})
_OPTIONAL = frozenset(
    {
        "positive_class",
        "stain",
        "input",
        "inputs",
        "decision",
        "description",
        "intended_use",
        "weights",
        "tuning",
        "quantisation",
        "aggregator",
    }
)
_LEVEL_KEYS = frozenset({"level", "onnx", "sha256"})
_OF_CLASSES = ("positive_class", "decision", "aggregator", "tuning")
"""Entries that say nothing of a package without classes."""
_NO_THRESHOLD = 1.0
"""Of an encoder's level, where there is no score to compare."""
_MOST_TOGETHER = 64
"""Tiles that a network may be given at a time."""

BATCH_SHAPE = 4
"""Tiles that a network is given at a time where its package does not say. The shipped networks run 1036 tiles/s at 4,
1031 at 1 and 939 at 8 on one core; a larger shape pads more in vain when batches get short."""
POSITION = "position"
"""Name of the graph input that says where a tile lies, and of its entry in ``inputs``."""


@dataclass(frozen=True)
class ModelLevel:
    """One level's network and threshold.

    Attributes
    ----------
    level
        Analysis level, 0 = finest.
    onnx_path
        The network's file.
    threshold
        The decision block zooms in (at level 0: says positive) at a score of at least this, in [0, 1].
    sha256
        Hash of the network's file, 64 hexadecimal digits.
    batch
        Tiles that the network is given at a time, the same for all: the fixed batch shape.
    """

    level: int
    onnx_path: Path
    threshold: float
    sha256: str
    batch: int = BATCH_SHAPE


@dataclass(frozen=True)
class FloatInput:
    """Input of a network that has no normalisation of its own: ``(pixel / 255 - mean) / std``, float32 NCHW.

    Such a network gives logits; probabilities are their softmax.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class ModelPackage:
    """A model package whose files were seen to match their description.

    Attributes
    ----------
    folder
        The package's folder.
    name
        The model's name.
    classes
        Names of the classes, in the order of the output's columns. None for an encoder, whose only output is a feature
        vector; it has one level.
    positive_class
        Index into `classes`; None when the description leaves it open and the caller has to name one, and of an
        encoder.
    tile_size
        Side of a tile in pixels, the same at every level.
    scale_factor
        Ratio of spacings between neighbouring levels.
    base_mpp
        µm per pixel of level 0.
    stain
        Name of the stain normalisation.
    levels
        One entry a level, level 0 first.
    yaml_text
        The description as it was read, for the result file.
    float_input
        How the input is made for networks that take floats; None for uint8 NHWC.
    intended_use
        What the model is for, a value of `IntendedUse`; None where the package does not say. Networks that were never
        trained are for benchmarks.
    stain_target
        What the stain is brought to, None for no normalisation.
    stain_per
        Whose stain that is: ``slide``, estimated once, or ``tile``, each tile's own.
    quantisation_difference
        Of a network in integers: how far its probabilities were from those of the original; None in floats.
    band
        Which scores leave doubt where a run has strides in steps; None where the package does not say.
    band_strides
        The strides that this was chosen for, in pixels of level 0, the finest first; None where it does not say.
    sees_position
        Whether the networks have a second input that says where a tile lies: `POSITION`, float32 (B, 2), the middle of
        its window over the slide's size, x and y in [0, 1]; see `Grid.positions`.
    aggregator
        What makes one prediction of a slide's tiles; None where the package is of tiles alone.
    encoder
        Another package, of an encoder, that a run takes the features of level 0 from; no part of this one.
    """

    folder: Path
    name: str
    classes: tuple[str, ...]
    positive_class: int | None
    tile_size: int
    scale_factor: int
    base_mpp: float
    stain: str
    levels: tuple[ModelLevel, ...]
    yaml_text: str
    float_input: FloatInput | None = None
    intended_use: str | None = None
    stain_target: StainTarget | None = None
    stain_per: str = "slide"
    quantisation_difference: float | None = None
    band: Band | None = None
    band_strides: tuple[int, ...] | None = None
    sees_position: bool = False
    aggregator: AggregatorEntry | None = None
    encoder: ModelPackage | None = None

    @property
    def random_weights(self) -> bool:
        """Whether the networks were never trained, so that their answers mean nothing."""
        return self.intended_use == IntendedUse.BENCHMARK

    @property
    def is_encoder(self) -> bool:
        """Whether it gives features and nothing else."""
        return not self.classes

    @property
    def networks(self) -> tuple[ModelLevel | AggregatorEntry, ...]:
        """All files of networks: of the levels, level 0 first, of the aggregator, and of the encoder beside it."""
        aggregator = () if self.aggregator is None else (self.aggregator,)
        return (*self.levels, *aggregator, *(() if self.encoder is None else self.encoder.levels))

    @property
    def n_levels(self) -> int:
        """Number of analysis levels."""
        return len(self.levels)

    @property
    def positive_name(self) -> str:
        """Name of the positive class; empty of an encoder."""
        return "" if self.is_encoder else self.classes[self.score_column]

    @property
    def score_column(self) -> int:
        """Column of the positive class, which `with_positive_class` has made sure of."""
        assert self.positive_class is not None
        return self.positive_class

    def with_positive_class(self, name: str | None, option: str = "--positive-class") -> ModelPackage:
        """The package with the positive class that the caller names, or its own.

        Parameters
        ----------
        option
            By which users name it, for the error.

        Raises
        ------
        UsageError
            When there is no class of that name, or neither names one.
        """
        if name is None and (self.positive_class is not None or self.is_encoder):
            return self
        if self.is_encoder:
            raise UsageError(f"{option} {name}: model {self.name} is an encoder, which has no classes; leave it out")
        if name not in self.classes:
            what = "does not say which class is the positive one" if name is None else f"has no class {name!r}"
            raise UsageError(f"model {self.name} {what}; give {option} with one of {list(self.classes)}")
        return replace(self, positive_class=self.classes.index(name))

    def thresholds(self, overrides: Mapping[int, float]) -> tuple[float, ...]:
        """Threshold of every level, level 0 first, some replaced by the caller's."""
        unknown = sorted(set(overrides) - set(range(self.n_levels)))
        if unknown:
            raise UsageError(
                f"--threshold names level {unknown[0]}, but model {self.name} has levels 0..{self.n_levels - 1}"
            )
        if overrides and self.is_encoder:
            raise UsageError(f"--threshold: model {self.name} is an encoder, which gives no scores; leave it out")
        return tuple(overrides.get(level.level, level.threshold) for level in self.levels)

    def stamp(self) -> bytes:
        """What tells the networks' files from all others of this machine, and from themselves once they are changed.

        Raises
        ------
        InputError
            When one is not there.
        """
        facts = []
        for network in self.networks:
            with input_errors(network.onnx_path):
                status = network.onnx_path.stat()
            facts.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        return repr(facts).encode()

    def check_digest(self, network: ModelLevel | AggregatorEntry, digest: str) -> None:
        """Raise `InputError` when a network's file has another SHA-256 than the description says."""
        if digest != network.sha256:
            raise InputError(
                f"{network.onnx_path}: its SHA-256 is {digest[:16]}..., expected {network.sha256[:16]}... as in "
                f"{network.onnx_path.parent / YAML_NAME}"
            )


def load_package(folder: Path, *, check_files: bool = True) -> ModelPackage:
    """Read a package's description and check it against the files beside it.

    The networks themselves (shapes, types, opset) are checked by `check.check_network`.

    Parameters
    ----------
    folder
        The package's folder.
    check_files
        Whether to compare the networks' files with their hashes; that they are there is checked in any case.

    Raises
    ------
    InputError
        With one line that names the file, what is wrong and what was expected.
    """
    path = folder / YAML_NAME
    text, document = read_description(folder)
    package = _parse(folder, path, text, document)
    for level in package.levels:
        if not level.onnx_path.is_file():
            raise InputError(
                f"{level.onnx_path}: missing, though {path} names it as the network of level {level.level}"
            )
        if check_files:
            package.check_digest(level, file_sha256(level.onnx_path))
    aggregator = package.aggregator
    if aggregator is not None:
        if not aggregator.onnx_path.is_file():
            raise InputError(f"{aggregator.onnx_path}: missing, though {path} names it as the aggregator")
        if check_files:
            package.check_digest(aggregator, file_sha256(aggregator.onnx_path))
    return package


def _parse(folder: Path, path: Path, text: str, document: Any) -> ModelPackage:
    if isinstance(document, dict) and document.get("format", FORMAT) != FORMAT:
        raise InputError(f"{path}: format is {document['format']!r:.80}, expected {FORMAT!r}")
    entries = _mapping(path, "the document", document, _REQUIRED, _OPTIONAL)
    classes = _classes(path, entries)
    _expect(path, "input", entries.get("input", {}), {"layout": "NHWC", "dtype": "uint8"})
    _mapping(path, "tuning", entries.get("tuning", {}), frozenset(), None)
    inputs = entries.get("inputs") or []
    if inputs not in ([], [POSITION]):
        raise InputError(f"{path}: inputs is {inputs!r:.80}, expected [] or [{POSITION}]")
    stain = parse_stain(path, entries.get("stain", {"method": "none"}))
    tile_size = _whole(path, "tile_size", entries["tile_size"], 8, 8192)
    band, band_strides = parse_decision(path, entries.get("decision", {}), tile_size)
    return ModelPackage(
        folder=folder,
        name=_text(path, "name", entries["name"]),
        classes=tuple(classes),
        positive_class=classes.index(entries["positive_class"]) if classes else None,
        tile_size=tile_size,
        scale_factor=_whole(path, "scale_factor", entries["scale_factor"], 2, 16),
        base_mpp=_number(path, "base_mpp", entries["base_mpp"], above=0.0, at_most=1e6),
        stain=stain.method,
        levels=_levels(folder, path, entries["levels"], is_encoder=not classes),
        yaml_text=text,
        stain_target=stain.target,
        stain_per=stain.per,
        intended_use=_intended_use(path, entries.get("intended_use"), entries.get("weights", "trained")),
        quantisation_difference=_quantisation(path, entries.get("quantisation")),
        band=band,
        band_strides=band_strides,
        sees_position=bool(inputs),
        aggregator=parse_aggregator(folder, path, entries["aggregator"]) if "aggregator" in entries else None,
    )


def _classes(path: Path, entries: Mapping[str, Any]) -> list[str]:
    """Names of the classes; none of an encoder, which then says nothing else of classes either."""
    classes = entries["classes"]
    if classes == []:
        for key in _OF_CLASSES:
            if key in entries:
                raise InputError(f"{path}: has {key} and no classes; an encoder (classes: []) gives features alone")
        return []
    if not isinstance(classes, list) or len(classes) < 2 or not all(isinstance(c, str) for c in classes):
        raise InputError(
            f"{path}: classes must be a list of at least two names, or empty for an encoder, found {classes!r:.200}"
        )
    for name in classes:
        _text(path, "classes", name)
    if len(set(classes)) != len(classes):
        raise InputError(f"{path}: classes has a name twice: {classes!r:.200}")
    if "positive_class" not in entries:
        raise InputError(f"{path}: the document lacks the key 'positive_class'")
    if entries["positive_class"] not in classes:
        raise InputError(
            f"{path}: positive_class is {entries['positive_class']!r:.80}, expected one of {classes!r:.200}"
        )
    return classes


def _levels(folder: Path, path: Path, entries: Any, *, is_encoder: bool) -> tuple[ModelLevel, ...]:
    if is_encoder and isinstance(entries, list) and len(entries) != 1:
        raise InputError(f"{path}: has no classes and {len(entries)} levels; an encoder has level 0 alone")
    if not isinstance(entries, list) or not 1 <= len(entries) <= 15:
        raise InputError(f"{path}: levels must be a list of 1 to 15 levels, found {entries!r:.80}")
    levels = []
    for position, entry in enumerate(entries):
        required = _LEVEL_KEYS if is_encoder else _LEVEL_KEYS | {"threshold"}
        fields = _mapping(path, f"levels[{position}]", entry, required, frozenset({"batch"}))
        file_name = _text(path, f"levels[{position}].onnx", fields["onnx"])
        if "/" in file_name or "\\" in file_name or file_name in {"", ".", ".."} or len(file_name) > 255:
            raise InputError(
                f"{path}: levels[{position}].onnx is {file_name!r:.80}, expected a file of the model's folder"
            )
        stated = fields.get("threshold", _NO_THRESHOLD)
        threshold = _number(path, f"levels[{position}].threshold", stated, above=None, at_most=1.0)
        if threshold < 0:
            raise InputError(f"{path}: levels[{position}].threshold is {threshold:g}, expected a number in [0, 1]")
        sha256 = _text(path, f"levels[{position}].sha256", fields["sha256"])
        level = _whole(path, f"levels[{position}].level", fields["level"], 0, 14)
        batch = _whole(path, f"levels[{position}].batch", fields.get("batch", BATCH_SHAPE), 1, _MOST_TOGETHER)
        levels.append(ModelLevel(level, folder / file_name, threshold, sha256, batch))
    levels.sort(key=lambda level: level.level)
    if [level.level for level in levels] != list(range(len(levels))):
        raise InputError(
            f"{path}: levels are {[level.level for level in levels]}, expected each of 0..{len(levels) - 1} once"
        )
    return tuple(levels)


def _expect(path: Path, key: str, value: Any, expected: dict[str, str]) -> None:
    if not isinstance(value, dict) or not value.items() <= expected.items():
        raise InputError(f"{path}: {key} is {value!r:.80}, expected {expected}")


def _intended_use(path: Path, value: Any, weights: Any) -> str | None:
    if weights not in ("trained", "random"):
        raise InputError(f"{path}: weights is {weights!r:.80}, expected trained or random")
    if value is not None and (not isinstance(value, str) or value not in set(IntendedUse)):
        raise InputError(f"{path}: intended_use is {value!r:.80}, expected one of {', '.join(IntendedUse)}, or nothing")
    if weights == "trained":
        return value
    if value not in (None, IntendedUse.BENCHMARK):
        raise InputError(f"{path}: intended_use is {value}, but its weights are random, so expected benchmark")
    return str(IntendedUse.BENCHMARK)


def _quantisation(path: Path, value: Any) -> float | None:
    if value is None:
        return None
    entries = _mapping(path, "quantisation", value, frozenset({"max_difference"}), None)
    difference = _number(path, "quantisation.max_difference", entries["max_difference"], above=None, at_most=1.0)
    if difference < 0:
        raise InputError(f"{path}: quantisation.max_difference is {difference:g}, expected a number in [0, 1]")
    return difference
