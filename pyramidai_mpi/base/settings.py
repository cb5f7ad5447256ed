"""Settings of a run, and the parsing of what a caller writes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.hosts import Hosts
from pyramidai_mpi.base.mode import Mode
from pyramidai_mpi.base.odd_levels import ODD_LEVELS, OWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from pyramidai_mpi.base.part import Part

DEFAULT_BATCH_SIZE = 16
MOST_BATCH_SIZE = 4096
DEFAULT_POLICY = "steal-half"
DEFAULT_MIN_TISSUE = 0.05


@dataclass(frozen=True)
class Regions:
    """Where on a slide a run may look, and what it takes for tissue.

    Attributes
    ----------
    roi, exclude
        Outlines that the analysis is restricted to, and that are left out of it: a file, or a folder in which the
        slide's file is found by its name.
    tissue_mask
        Tissue as found elsewhere: likewise, an image.
    no_tissue
        All of the slide is tissue.
    """

    roi: Path | None = None
    exclude: Path | None = None
    tissue_mask: Path | None = None
    no_tissue: bool = False

    def __post_init__(self) -> None:
        if self.no_tissue and self.tissue_mask is not None:
            raise UsageError("--no-tissue and --tissue-mask exclude each other; give one")

    @property
    def given(self) -> bool:
        """Whether any of it is asked for."""
        return self != Regions()

    def paths(self) -> dict[str, Path]:
        """What is given by file, by role."""
        named = {"roi": self.roi, "exclude": self.exclude, "tissue_mask": self.tissue_mask}
        return {role: path for role, path in named.items() if path is not None}

    def check_for_several(self, n_slides: int) -> None:
        """See that no single file is to count for several slides.

        Raises
        ------
        UsageError
            When one is.
        """
        for role, path in self.paths().items():
            if n_slides > 1 and not path.is_dir():
                raise UsageError(
                    f"--{role.replace('_', '-')} {path}: is no folder, for {n_slides} slides; give a folder with one "
                    "file a slide, named like it"
                )


READERS = ("auto", "image", "openslide", "patches", "tiff")
"""Those of `slides.readers.choice`, as tests see; so are the policies those of `sched.policy`."""
READ_AHEAD = ("auto", "always", "never")
LEVELS = ("mpp", "scale")
TISSUE_METHODS = ("od", "hsv-otsu")
"""Those of `slides.segmentation`, the default first."""
WRITERS = ("auto", "serial", "mpio")
NETWORK_LIBRARIES = ("onnxruntime", "openvino")
"""What can run networks, the default first, by the names of module and distribution."""
BACKENDS = ("auto", *NETWORK_LIBRARIES)
PRECISIONS = ("float32", "bfloat16")
FEATURE_TYPES = ("float32", "float16")
"""What feature vectors are kept in, the default first."""
POLICIES = ("static", "steal-one", "steal-half")


def check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    """See that a word is one of those that an option knows.

    Raises
    ------
    UsageError
        When it is none of them.
    """
    if value not in choices:
        raise UsageError(f"{option} {value}: expected {', '.join(choices[:-1])} or {choices[-1]}")


@dataclass(frozen=True)
class SlideInput:
    """A slide, and what of it is looked at.

    Attributes
    ----------
    path
        The slide's file.
    mpp
        µm per level-0 pixel; None takes what the slide says.
    levels
        ``mpp``: the model's levels are found on the slide by µm/px; ``scale``: the slide's pixels are the model's level
        0 whatever their size.
    min_tissue
        A lowest-level tile is a root when its tissue share is at least this.
    regions
        Where on the slide to look.
    allow_upsampling
        Serve levels finer than the slide.
    reader
        ``auto``, ``openslide`` or ``tiff``: what decodes the slide's pixels (see `slides.readers.choice`).
    sha256
        Hash the whole slide, for the result file.
    tissue
        How tissue is found, of `TISSUE_METHODS`, unless the regions say where it is.
    tissue_limit
        Least optical density of tissue, of method ``od``; None takes the method's own.
    part
        Which part of the slide's roots this run does; None does all.
    tissue_network
        Package of a network that finds the tissue, instead of `tissue`.
    odd_levels
        How stored levels are read whose size is no whole fraction of level 0's: their ``own`` pixels as they are
        stored, where they can be had, or all ``interpolated`` by OpenSlide, as earlier versions did.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    path: Path
    mpp: float | None = None
    levels: str = "mpp"
    min_tissue: float = DEFAULT_MIN_TISSUE
    regions: Regions = field(default_factory=Regions)
    allow_upsampling: bool = False
    reader: str = "auto"
    sha256: bool = False
    tissue: str = TISSUE_METHODS[0]
    tissue_limit: float | None = None
    part: Part | None = None
    tissue_network: Path | None = None
    odd_levels: str = OWN

    def __post_init__(self) -> None:
        if self.mpp is not None and not (math.isfinite(self.mpp) and self.mpp > 0):
            raise UsageError(f"--mpp {self.mpp:g}: expected a number of µm per pixel above 0")
        check_choice("--levels", self.levels, LEVELS)
        check_choice("--reader", self.reader, READERS)
        check_choice("--odd-levels", self.odd_levels, ODD_LEVELS)
        if self.levels == "scale" and self.mpp is not None:
            raise UsageError("--levels scale and --mpp exclude each other: by scale, µm/px do not count; give one")
        check_choice("--tissue", self.tissue, TISSUE_METHODS)
        if self.tissue_network is not None and (self.regions.no_tissue or self.regions.tissue_mask is not None):
            raise UsageError(f"--tissue {self.tissue_network}: finds tissue, which --tissue-mask and --no-tissue give")
        if self.tissue_limit is not None:
            if not 0 < self.tissue_limit <= 1:
                raise UsageError(f"--tissue-limit {self.tissue_limit:g}: expected an optical density above 0, up to 1")
            given = self.tissue_network is not None or self.regions.tissue_mask is not None
            if self.tissue != "od" or self.regions.no_tissue or given:
                raise UsageError("--tissue-limit: only where tissue is found by optical density (--tissue od)")
        if not 0 <= self.min_tissue <= 1:
            raise UsageError(f"--min-tissue {self.min_tissue:g}: expected a share in [0, 1]")


@dataclass(frozen=True)
class ModelChoice:
    """A model, and what is asked of its networks.

    Attributes
    ----------
    path
        The package's folder.
    thresholds
        Replacements for the model's thresholds, by level.
    positive_class
        Name of the class whose probability decides; None takes the model's.
    features
        Keep the networks' feature vectors.
    backend
        ``onnxruntime``, ``openvino`` or ``auto``: what runs the networks (see `models.engines.backends`).
    precision
        ``float32``, or ``bfloat16`` with OpenVINO.
    feature_type
        ``float32``, or ``float16``: what the numbers of feature vectors are kept in.
    encoder
        Package of an encoder that gives the features of level 0 in the model's place; None for none.
    compiled_cache
        Keep networks that were made ready for the next start, and take those that were.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    path: Path
    thresholds: Mapping[int, float] = field(default_factory=dict)
    positive_class: str | None = None
    features: bool = False
    backend: str = "onnxruntime"
    precision: str = "float32"
    feature_type: str = FEATURE_TYPES[0]
    encoder: Path | None = None
    compiled_cache: bool = True

    def __post_init__(self) -> None:
        for level, value in self.thresholds.items():
            if level < 0 or not 0 <= value <= 1:
                raise UsageError(f"--threshold {level}={value:g}: expected a level from 0 and a value in [0, 1]")
        check_choice("--backend", self.backend, BACKENDS)
        check_choice("--precision", self.precision, PRECISIONS)
        check_choice("--feature-type", self.feature_type, FEATURE_TYPES)
        if self.precision != "float32" and self.backend != "openvino":
            raise UsageError(f"--precision {self.precision}: only with --backend openvino")


STRIDE_MODES = ("window", "shared", "adaptive", "adaptive-shared")


@dataclass(frozen=True)
class Windows:
    """How far apart the windows of the model's level 0 lie.

    Attributes
    ----------
    stride
        Pixels of the model's level 0 from one window to the next; None lays them side by side.
    overlap
        The same as a share of the window's side, in [0, 1); None where `stride` says it, or nothing.
    mode
        ``window``: each by itself. ``shared``: those of a block in one pass of the network. ``adaptive``: coarser
        strides first, and closer only where scores leave doubt. ``adaptive-shared``: this, in one pass where that
        costs less.
    allow_approximate
        Take shared passes of networks whose answers they change.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    stride: int | None = None
    overlap: float | None = None
    mode: str = STRIDE_MODES[0]
    allow_approximate: bool = False

    def __post_init__(self) -> None:
        if self.stride is not None and self.overlap is not None:
            raise UsageError("--stride and --overlap say the same in two ways; give one")
        if self.stride is not None and self.stride < 1:
            raise UsageError(f"--stride {self.stride}: expected a number of pixels from 1")
        if self.overlap is not None and not 0 <= self.overlap < 1:
            raise UsageError(f"--overlap {self.overlap:g}: expected a share of the window's side in [0, 1)")
        check_choice("--stride-mode", self.mode, STRIDE_MODES)
        if not self.given and self.mode != STRIDE_MODES[0]:
            raise UsageError(f"--stride-mode {self.mode}: says how windows at a stride are computed; give --stride too")
        if self.allow_approximate and not self.is_shared:
            raise UsageError("--allow-approximate: expected with --stride-mode shared or adaptive-shared")

    @property
    def given(self) -> bool:
        """Whether a stride is asked for."""
        return self.stride is not None or self.overlap is not None

    @property
    def is_shared(self) -> bool:
        """Whether windows may be computed together."""
        return self.mode in {"shared", "adaptive-shared"}

    @property
    def is_adaptive(self) -> bool:
        """Whether coarser strides come first."""
        return self.mode in {"adaptive", "adaptive-shared"}


@dataclass(frozen=True)
class Output:
    """A result file, and what may lie there already.

    Attributes
    ----------
    path
        The file to write.
    overwrite
        Replace an existing output, and begin anew whatever its journal says.
    resume
        Go on from the output's journal, if there is one.
    leave_finished
        Leave a finished result of the same run alone without being told to resume, as with one of several slides.
    writer
        ``auto``, ``serial`` or ``mpio``: who writes the result file.
    command_line
        The command that the user gave, which the result records.
    accept_mixed
        Go on from a journal, and leave a finished result alone, though versions of what computes differ.
    share
        Which part of several slides this run does, for the names of its records; None does all.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    path: Path
    overwrite: bool = False
    resume: bool = False
    leave_finished: bool = False
    writer: str = "auto"
    command_line: str = ""
    accept_mixed: bool = False
    share: Part | None = None

    def __post_init__(self) -> None:
        check_choice("--writer", self.writer, WRITERS)
        if self.resume and self.overwrite:
            raise UsageError("--resume and --overwrite exclude each other; give one")


@dataclass(frozen=True)
class Schedule:
    """How the work is spread and batched; the result does not depend on it.

    Attributes
    ----------
    policy
        Name of the scheduler's policy.
    seed
        Seed of the random choice of the ranks to steal from.
    batch_size
        Most tiles in one call of the scheduler's worker.
    read_ahead
        ``auto``, ``always`` or ``never``: whether tiles are read before their turn (see `slides.source`).
    audit
        Per cent of the tiles that another rank computes again, to compare bits; 0 for none.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    policy: str = DEFAULT_POLICY
    seed: int = 0
    batch_size: int = DEFAULT_BATCH_SIZE
    read_ahead: str = "auto"
    audit: float = 0.0

    def __post_init__(self) -> None:
        check_choice("--policy", self.policy, POLICIES)
        if not 0 <= self.audit <= 100:  # no NaN either
            raise UsageError(f"--audit {self.audit:g}: expected per cent of the tiles, from 0 to 100")
        check_choice("--read-ahead", self.read_ahead, READ_AHEAD)
        if not 1 <= self.batch_size <= MOST_BATCH_SIZE:
            raise UsageError(f"--batch-size {self.batch_size}: expected 1 to {MOST_BATCH_SIZE}")


@dataclass(frozen=True)
class RunSettings:
    """One slide's run, as every rank is told: slide, model, output, schedule, tiles, windows, what hosts share."""

    slide: SlideInput
    model: ModelChoice
    output: Output
    schedule: Schedule = field(default_factory=Schedule)
    mode: Mode = Mode.PYRAMID
    windows: Windows = field(default_factory=Windows)
    hosts: Hosts = field(default_factory=Hosts)

    def __post_init__(self) -> None:
        if self.hosts.are_apart and self.output.writer == "mpio":
            raise UsageError("--writer mpio: writes one file by all ranks, which hosts with --own-disks do not share")

    @classmethod
    def of(cls, slide: Path, model: Path, output: Path, **others: Any) -> Self:
        """Settings from one flat list of values, each under the name that its part has for it.

        ``mode`` and ``windows`` besides.
        """

        def taken(part: type) -> dict[str, Any]:
            return {one.name: others.pop(one.name) for one in fields(part) if one.name in others}

        mode = others.pop("mode", Mode.PYRAMID)
        windows = others.pop("windows", Windows())
        return cls(
            SlideInput(slide, **taken(SlideInput)),
            ModelChoice(model, **taken(ModelChoice)),
            Output(output, **taken(Output)),
            Schedule(**others),
            mode,
            windows,
        )

    def paths(self) -> list[Path]:
        """All files and folders that are named."""
        own = [self.slide.path, self.model.path, self.output.path]
        besides = (path for path in (self.model.encoder, self.slide.tissue_network) if path is not None)
        return [*own, *besides, *self.slide.regions.paths().values()]

    def with_output(self, **changes: Any) -> Self:
        """The same with another way with its output."""
        return replace(self, output=replace(self.output, **changes))

    def with_model(self, **changes: Any) -> Self:
        """The same with something else asked of the model."""
        return replace(self, model=replace(self.model, **changes))


def parse_thresholds(words: Iterable[str]) -> dict[int, float]:
    """Thresholds by level from words such as ``1=0.3``.

    Raises
    ------
    UsageError
        When a word is malformed, a value lies outside [0, 1] or a level is named twice.
    """
    thresholds: dict[int, float] = {}
    for word in words:
        level_text, equals, value_text = word.partition("=")
        try:
            level, value = int(level_text), float(value_text)
        except ValueError:
            equals = ""
        if not equals or level < 0:
            raise UsageError(f"--threshold {word}: expected LEVEL=VALUE such as 1=0.3")
        if not 0 <= value <= 1:
            raise UsageError(f"--threshold {word}: expected a value in [0, 1]")
        if level in thresholds:
            raise UsageError(f"--threshold {word}: level {level} is given twice")
        thresholds[level] = value
    return thresholds
