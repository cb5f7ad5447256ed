"""The options of ``pyramidai train``, in groups: which network, how it is fitted, what it is tried on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.training.architectures import ARCHITECTURES
from pyramidai_mpi.training.choices import KEEPS, LOSSES, OPTIMIZERS, PRECISIONS, SCHEDULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyramidai_mpi.training.fit_settings import FitSettings

PATH = click.Path(path_type=Path, readable=False)
_ABOVE_0 = click.FloatRange(0, min_open=True)
_FROM_0 = click.FloatRange(0)


@dataclass(frozen=True)
class NetworkChoice:
    """Which network is trained, from where, and what it may be used for: see the options' help."""

    arch: str
    weights: Path | None
    from_finer: bool
    position: bool
    intended_use: str | None


@dataclass(frozen=True)
class SplitChoice:
    """What trains, what validates and what tests: see the options' help."""

    split: Path | None
    fold: int | None
    folds: int | None
    leave_centre_out: bool
    origin: Path | None

    @property
    def is_crossed(self) -> bool:
        """Whether several networks are trained, each tested on something else."""
        return self.folds is not None or self.leave_centre_out


def _group(
    options: Sequence[Any], key: str, made_of: Callable[[Mapping[str, Any]], Any]
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """A decorator that adds options, and gives the command what is made of their values under one name."""
    names = [_name_of(option) for option in options]

    def decorate(function: Callable[..., int]) -> Callable[..., int]:
        @wraps(function)
        def with_group(*args: Any, **values: Any) -> int:
            own = {name: values.pop(name) for name in names}
            return function(*args, **{key: made_of(own)}, **values)

        command: Any = with_group
        for option in reversed(options):
            command = option(command)
        decorated: Callable[..., int] = command
        return decorated

    return decorate


def _name_of(option: Any) -> str:
    """What a command gets an option's value as."""

    def probe() -> None: ...

    option(probe)
    return str(probe.__click_params__[0].name)  # type: ignore[attr-defined]


network_options = _group(
    [
        click.option(
            "--arch",
            type=click.Choice([one.name for one in ARCHITECTURES]),
            default="small",
            show_default=True,
            help="; ".join(f"{one.name}: {one.help}" for one in ARCHITECTURES) + ".",
        ),
        click.option("--weights", type=PATH, metavar="FILE", help="State dict or .safetensors file to start from."),
        click.option(
            "--from-finer", is_flag=True, help="Start each level above 0 from what the level below it has learnt."
        ),
        click.option("--position", is_flag=True, help="Tell the networks where on its slide a tile lies."),
        click.option(
            "--intended-use",
            type=click.Choice([use.value for use in IntendedUse if use is not IntendedUse.BENCHMARK]),
            help="What the model may be used for, for its package: demonstration where the slides are generated.  "
            "[default: not said]",
        ),
    ],
    "network",
    lambda values: NetworkChoice(**values),
)

split_options = _group(
    [
        click.option(
            "--split",
            type=PATH,
            metavar="CSV",
            help="Of --patches: columns split (train, validation, test) and file, slide or patient; or with --fold a "
            "table of patches folds.  [default: drawn by patient]",
        ),
        click.option(
            "--fold",
            type=click.IntRange(0),
            metavar="N",
            help="Of --split: the fold that tests; the next one validates.",
        ),
        click.option(
            "--folds",
            type=click.IntRange(3),
            metavar="K",
            help="Train K times, by patient: each fold tests once, the next one validates, the others train.",
        ),
        click.option(
            "--leave-centre-out",
            is_flag=True,
            help="Train once for each centre, without its slides, and test on these.",
        ),
        click.option(
            "--origin",
            type=PATH,
            metavar="CSV",
            help="Columns slide, patient, centre: says which slides belong together.  [default: what names of "
            "CAMELYON17 say; else each slide is a patient]",
        ),
    ],
    "splitting",
    lambda values: SplitChoice(**values),
)


def _fit_of(values: Mapping[str, Any]) -> Callable[[int, str], FitSettings]:
    def with_rest(seed: int, device: str) -> FitSettings:
        from pyramidai_mpi.training.fit_settings import FitSettings, parse_augment, parse_class_weights, parse_epochs

        parsed = {
            "class_weights": parse_class_weights(values["class_weights"]),
            "drop_at": parse_epochs("--drop-at", values["drop_at"]),
            "augment": parse_augment(values["augment"]),
        }
        return FitSettings(**{**values, **parsed}, seed=seed, device=device)

    return with_rest


fit_options = _group(
    [
        click.option("--epochs", type=click.IntRange(1), default=10, show_default=True),
        click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True, help="Tiles a step."),
        click.option(
            "--micro-batch",
            type=click.IntRange(2),
            default=8,
            show_default=True,
            help="Tiles that one rank does at once: what ranks share of a step. Batch norm's statistics are theirs.",
        ),
        click.option("--loss", type=click.Choice(LOSSES), default="bce", show_default=True),
        click.option(
            "--focal-gamma", type=_FROM_0, default=2.0, show_default=True, help="Of --loss focal (Lin et al. 2017)."
        ),
        click.option(
            "--class-weights",
            metavar="balanced|W,W",
            help="Learn from all drawn tiles, and weigh negative and positive ones.  [default: as many of both]",
        ),
        click.option(
            "--label-smoothing",
            type=click.FloatRange(0, 1, max_open=True),
            default=0.0,
            show_default=True,
            metavar="SHARE",
        ),
        click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="adam", show_default=True),
        click.option("--learning-rate", type=_ABOVE_0, default=1e-4, show_default=True),
        click.option(
            "--momentum", type=click.FloatRange(0, 1, max_open=True), default=0.9, show_default=True, help="Of sgd."
        ),
        click.option("--nesterov", is_flag=True, help="Nesterov's momentum, of sgd."),
        click.option("--decay", type=_FROM_0, default=0.0, show_default=True, help="Weight decay."),
        click.option(
            "--schedule",
            type=click.Choice(SCHEDULES),
            default="constant",
            show_default=True,
            help="Of the learning rate: towards 0 along a cosine, or divided by 10 at steps.",
        ),
        click.option(
            "--warm-up",
            type=_FROM_0,
            default=0.0,
            show_default=True,
            metavar="EPOCHS",
            help="In which the learning rate rises to its value.",
        ),
        click.option(
            "--drop-at",
            metavar="EPOCH,...",
            help="After which epochs --schedule steps divides.  [default: half and three quarters of all]",
        ),
        click.option(
            "--rate-decay",
            type=_FROM_0,
            default=0.0,
            show_default=True,
            metavar="D",
            help="Divide the learning rate by 1 + D x the number of the step: what Keras calls decay.",
        ),
        click.option(
            "--augment",
            default="turns",
            show_default=True,
            metavar="WORDS",
            help="Change tiles at random: turns,stain=S,shift=S,zoom=S,brightness=S, such as turns,stain=0.2; or none.",
        ),
        click.option(
            "--freeze",
            type=click.IntRange(0),
            default=0,
            show_default=True,
            metavar="N",
            help="The network's first N stages keep their weights, and their batch norm its averages.",
        ),
        click.option(
            "--patience",
            type=click.IntRange(1),
            metavar="N",
            help="Stop when the loss on the validation tiles has not fallen for N epochs.  [default: never]",
        ),
        click.option(
            "--patience-from", type=click.IntRange(1), default=1, show_default=True, metavar="EPOCH", help="Not before."
        ),
        click.option(
            "--keep",
            type=click.Choice(KEEPS),
            default="best",
            show_default=True,
            help="Which epoch's weights the package gets, best on the validation tiles or last; the others stay in "
            "--work.",
        ),
        click.option(
            "--precision",
            type=click.Choice(PRECISIONS),
            default="float32",
            show_default=True,
            help="Of the convolutions while training; bfloat16 is faster where the processor has it.",
        ),
    ],
    "fitting",
    _fit_of,
)
