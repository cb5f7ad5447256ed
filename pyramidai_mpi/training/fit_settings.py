"""How tile networks are trained: every choice that decides the weights, checked where it is made."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.base.settings import check_choice
from pyramidai_mpi.training.augment import AugmentSettings
from pyramidai_mpi.training.choices import KEEPS, LOSSES, OPTIMIZERS, PRECISIONS, SCHEDULES


@dataclass(frozen=True)
class FitSettings:
    """How a network is trained.

    Attributes
    ----------
    epochs, batch_size
        Passes over the tiles, tiles a step.
    micro_batch
        Tiles at most whose forward and backward pass is done at once, by one thread. Batch norm takes its statistics
        from these.
    learning_rate
        The optimiser's step, before `schedule` changes it.
    seed
        Of all random choices.
    loss, focal_gamma
        One of `LOSSES`; how much less the focal loss makes of tiles that are told well (Lin et al. 2017).
    class_weights
        None; ``balanced``; or the weights of a negative and of a positive tile.
    label_smoothing
        Share of the label that is spread over both classes.
    optimizer, momentum, nesterov, decay
        One of `OPTIMIZERS`; SGD's momentum, and whether Nesterov's; weight decay, which ``adamw`` keeps apart from the
        gradient and the others add to it.
    schedule, warm_up, drop_at, rate_decay
        One of `SCHEDULES`; epochs in which the rate rises to its value; epochs after which ``steps`` divides it by 10,
        empty for half and three quarters of all; D of a rate that is divided by 1 + D times the number of the step.
    augment
        How tiles are changed at random before the network sees them.
    freeze
        How many stages of the network keep their weights, from the input on.
    patience, patience_from
        Stop when the loss on the validation tiles has not fallen below its lowest for so many epochs, not before this
        epoch (counted from 1); None never stops.
    keep
        Which weights count at the end, of `KEEPS`.
    device
        The device by torch's name, such as cpu or cuda.
    precision
        ``float32``, or ``bfloat16`` for the convolutions of the steps: about twice as fast on processors that have it.
        Weights, losses and accuracies are float32 all the same.

    Raises
    ------
    UsageError
        When a value is none of those.
    """

    epochs: int = 10
    batch_size: int = 32
    learning_rate: float = 1e-4
    seed: int = 0
    micro_batch: int = 8
    loss: str = "bce"
    focal_gamma: float = 2.0
    class_weights: str | tuple[float, float] | None = None
    label_smoothing: float = 0.0
    optimizer: str = "adam"
    momentum: float = 0.9
    nesterov: bool = False
    decay: float = 0.0
    schedule: str = "constant"
    warm_up: float = 0.0
    drop_at: tuple[int, ...] = ()
    rate_decay: float = 0.0
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    freeze: int = 0
    patience: int | None = None
    patience_from: int = 1
    keep: str = "best"
    device: str = "cpu"
    precision: str = "float32"

    def __post_init__(self) -> None:
        for option, value, choices in (
            ("--loss", self.loss, LOSSES),
            ("--optimizer", self.optimizer, OPTIMIZERS),
            ("--schedule", self.schedule, SCHEDULES),
            ("--keep", self.keep, KEEPS),
            ("--precision", self.precision, PRECISIONS),
        ):
            check_choice(option, value, choices)
        for option, number, least, below in (
            ("--learning-rate", self.learning_rate, 0.0, math.inf),
            ("--focal-gamma", self.focal_gamma, 0.0, math.inf),
            ("--label-smoothing", self.label_smoothing, 0.0, 1.0),
            ("--momentum", self.momentum, 0.0, 1.0),
            ("--decay", self.decay, 0.0, math.inf),
            ("--rate-decay", self.rate_decay, 0.0, math.inf),
            ("--warm-up", self.warm_up, 0.0, math.inf),
        ):
            if not least <= number < below:
                raise UsageError(f"{option} {number:g}: expected a number from {least:g} on, below {below:g}")
        if self.batch_size < 2 or self.micro_batch < 2:
            raise UsageError("--batch-size and --micro-batch: expected at least 2 tiles, for batch norm's sake")
        if self.nesterov and (self.optimizer != "sgd" or not self.momentum):
            raise UsageError("--nesterov is a way of --optimizer sgd with --momentum above 0")
        if self.drop_at and self.schedule != "steps":
            raise UsageError("--drop-at says where --schedule steps divides the learning rate")
        if self.warm_up and self.warm_up >= self.epochs:
            raise UsageError(f"--warm-up {self.warm_up:g}: there are {self.epochs} epochs; expected fewer")

    @property
    def drops(self) -> tuple[int, ...]:
        """Epochs after which ``steps`` divides the learning rate by 10, counted from 1."""
        return self.drop_at or (max(self.epochs // 2, 1), max(self.epochs * 3 // 4, 1))

    def facts(self) -> dict[str, float | str | list[float]]:
        """What a training that goes on must have in common with the one that it goes on from, by option.

        More epochs are welcome where the schedule does not depend on how many there are, another device too.
        """
        weights = self.class_weights
        facts: dict[str, float | str | list[float]] = {
            "--seed": self.seed,
            "--batch-size": self.batch_size,
            "--micro-batch": self.micro_batch,
            "--learning-rate": self.learning_rate,
            "--loss": self.loss if self.loss == "bce" else f"{self.loss} {self.focal_gamma:g}",
            "--class-weights": weights if isinstance(weights, str) else list(weights or ()),
            "--label-smoothing": self.label_smoothing,
            "--optimizer": self.optimizer,
            "--momentum": self.momentum if self.optimizer == "sgd" else 0.0,
            "--nesterov": str(self.nesterov),
            "--decay": self.decay,
            "--schedule": self.schedule,
            "--warm-up": self.warm_up,
            "--rate-decay": self.rate_decay,
            "--augment": augment_in_words(self.augment),
            "--freeze": self.freeze,
            "--precision": self.precision,
        }
        if self.schedule == "steps":
            facts["--drop-at"] = list(self.drops)
        if self.schedule == "cosine":
            facts["--epochs"] = self.epochs
        return facts


def parse_class_weights(word: str | None) -> str | tuple[float, float] | None:
    """What ``balanced`` or ``W,W`` says.

    Raises
    ------
    UsageError
        For anything else.
    """
    if word is None or word == "balanced":
        return word
    try:
        negative, positive = (float(part) for part in word.split(","))
    except ValueError:
        negative = positive = -1.0
    if not (0 <= negative < math.inf and 0 <= positive < math.inf and negative + positive > 0):
        raise UsageError(
            f"--class-weights {word}: expected balanced, or two numbers such as 1,4: of negative and positive tiles"
        )
    return negative, positive


def parse_epochs(option: str, word: str | None) -> tuple[int, ...]:
    """Numbers of epochs such as ``30,60``.

    Raises
    ------
    UsageError
        When they are none, or do not ascend.
    """
    if word is None:
        return ()
    parts = word.split(",")
    if not all(part.strip().isascii() and part.strip().isdecimal() for part in parts):
        raise UsageError(f"{option} {word}: expected numbers of epochs such as 30,60")
    epochs = tuple(int(part) for part in parts)
    if epochs[0] < 1 or any(later <= earlier for earlier, later in pairwise(epochs)):
        raise UsageError(f"{option} {word}: expected epochs from 1 on, each after the one before")
    return epochs


def augment_in_words(augment: AugmentSettings) -> str:
    """What is changed, in a few words."""
    words = [f"{name}={value:g}" for name, value in asdict(augment).items() if name != "orientations" and value]
    return ",".join([*(["turns"] if augment.orientations else []), *words]) or "none"


_STRENGTHS = {
    "stain": ("stain_factor", "stain_offset"),
    "shift": ("shift",),
    "zoom": ("zoom",),
    "brightness": ("brightness",),
}


def parse_augment(word: str) -> AugmentSettings:
    """What words such as ``turns,stain=0.05,shift=0.1`` say; ``none`` changes nothing.

    Raises
    ------
    UsageError
        When a word is unknown or its number is none, or too large.
    """
    chosen: dict[str, float] = {}
    turns = False
    for part in [] if word == "none" else word.split(","):
        name, _, number = part.strip().partition("=")
        if part.strip() == "turns":
            turns = True
            continue
        try:
            chosen |= dict.fromkeys(_STRENGTHS[name], float(number))
        except (KeyError, ValueError):
            raise UsageError(
                f"--augment {word}: {part.strip() or 'an empty word'} is none of turns, stain=S, shift=S, zoom=S and "
                "brightness=S, with numbers S such as 0.1; or none"
            ) from None
    return AugmentSettings(orientations=turns, **chosen)
