"""A training on whole slides from their files to the package: what ``train-whole`` does on all ranks."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.models.segmentation_package import SegmentationText
from pyramidai_mpi.models.write import check_replaceable, write_segmentation_package
from pyramidai_mpi.ranks.collectives import agree_on, on_all, on_rank0
from pyramidai_mpi.store.files.placing import check_folder
from pyramidai_mpi.training.curves import charts_of, curves_page
from pyramidai_mpi.training.exact.checkpoint import Checkpoint, digest_of
from pyramidai_mpi.training.exact.log import TrainingLog, table_of
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.exact.work_folder import begin_work, state_path
from pyramidai_mpi.training.whole.architectures import new_whole_network
from pyramidai_mpi.training.whole.export import to_onnx
from pyramidai_mpi.training.whole.fitting import (
    DICE,
    WholeSettings,
    best_dice,
    best_epoch,
    check_block,
    train_on_images,
)
from pyramidai_mpi.training.whole.keeping import ImageOrder, KeptSlide, keep_slides

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from pyramidai_mpi.ranks.unit_pool import UnitPool
    from pyramidai_mpi.training.exact.loop import ExactTraining, TrainingProgress
    from pyramidai_mpi.training.whole.field import Field
    from pyramidai_mpi.training.whole.images import KeptImage

_ALIKE = 1.02
"""µm per pixel of two slides that count as equal."""


@dataclass(frozen=True)
class WholeRequest:
    """What is to be trained, on what.

    Attributes
    ----------
    slides
        All of them.
    validation
        Share of the slides that are held out to choose the best epoch by; at least one.
    images
        What images are made of them.
    network
        See `new_whole_network`.
    settings
        How it is trained. `steps` of 0 stands for one a slide that is learnt from.
    intended_use
        For the package.
    command
        For its card.
    """

    slides: tuple[Path, ...]
    validation: float
    images: ImageOrder
    network: str
    settings: WholeSettings
    intended_use: str | None
    command: str


@dataclass(frozen=True)
class WholePlaces:
    """Where a training's files are, and what may be done to them.

    Attributes
    ----------
    output, work
        Folder of the package, and of what is kept meanwhile.
    resume, overwrite
        Whether to go on from what is in `work`, or to begin anew.
    save_every_s
        Seconds between saved states.
    replaces
        Whether a package that is there goes once the new one is complete.
    check
        See `Checkpoint`.
    """

    output: Path
    work: Path
    resume: bool
    overwrite: bool
    save_every_s: float
    replaces: bool
    check: Callable[[], None] = lambda: None


def train_whole(
    pool: UnitPool,
    request: WholeRequest,
    places: WholePlaces,
    *,
    show: Callable[[TrainingProgress], None] | None = None,
    began: Callable[[int, int, int], None] = lambda *_: None,
    phase: Callable[[str], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Train a network on whole slides and write its package. Collective.

    Parameters
    ----------
    pool
        The ranks.
    request, places
        What, and where.
    show
        See `ExactTraining`.
    began
        Called on rank 0 with epochs, steps in each, and steps that are done.
    phase
        Told on rank 0 what is done before the first step.
    say
        Told on rank 0 what came of it, in a line.

    Raises
    ------
    PyramidError
        What the slides, the network or the disk are blamed for; one line.
    PoolStoppedError
        See `UnitPool`.
    """
    comm = pool.comm
    assert comm is not None
    agree_on(comm, "\n".join(map(str, request.slides)).encode(), "the list of slides")
    on_rank0(comm, partial(check_replaceable, places.output, overwrite=places.replaces))
    on_rank0(comm, partial(check_folder, places.output.parent))
    state = state_path(places.work)
    begin_work(pool, [state], resume=places.resume, overwrite=places.overwrite, say=say)
    network, field = on_all(comm, partial(_network_of, request))
    learnt, held_out = on_all(comm, partial(split_slides, request))
    kept = keep_slides(pool, [*learnt, *held_out], request.images, places.work, phase)
    um_px = on_all(comm, partial(common_spacing, kept))
    images = on_all(comm, partial(_marked_images, kept, len(learnt)))
    steps = request.settings.steps or len(learnt)
    settings = WholeSettings(**{**vars(request.settings), "steps": steps})
    checkpoint = Checkpoint(
        state, _facts(request, settings, kept, len(learnt), digest_of(network.state_dict())), places.check
    )
    is_first = pool.rank == 0

    def tell(training: ExactTraining) -> None:
        if is_first:
            began(settings.epochs, steps, training.epoch * steps + training.step_number)

    training = train_on_images(
        pool,
        network,
        field,
        (images[: len(learnt)], images[len(learnt) :]),
        settings,
        checkpoint,
        TrainingLog(places.work),
        save_every_s=places.save_every_s,
        show=show,
        began=tell,
    )

    def write() -> None:
        text = SegmentationText(
            name=places.output.name,
            mpp=um_px,
            total_stride=field.total_stride,
            # blocks with corners at multiples of the stride need one stride less than any pixel may
            halo=field.halo + field.total_stride,
            intended_use=request.intended_use,
        )
        charts = charts_of(
            training.log.rows, {"Loss": ["loss"], "Dice": [DICE, f"{DICE}_lowest"]}, marked=best_epoch(training)
        )
        files = {
            "README.md": _card(request, settings, text, field, training, (learnt, held_out)),
            "log.csv": table_of(training.log.rows),
            "curves.html": curves_page(f"Training of {text.name}", charts, training.log.rows),
        }
        graph = to_onnx(network, field, request.network)
        write_segmentation_package(places.output, text, graph, files, overwrite=places.replaces)

    on_rank0(comm, places.check)
    on_rank0(comm, write)
    if is_first:
        say(
            f"{places.output}: Dice {best_dice(training):.4f} on {counted(len(held_out), 'slide')} held out, epoch "
            f"{best_epoch(training)} of {training.epoch}; {places.work} can be deleted"
        )


def _marked_images(slides: Sequence[KeptSlide], n_learnt: int) -> list[KeptImage]:
    """The images, with something marked among those to learn from, and among those held out.

    Raises
    ------
    InputError
        There is nothing: of that a network learns to find nothing, and its Dice is 1.
    """
    images = [slide.image() for slide in slides]
    for said, part in (("to learn from", images[:n_learnt]), ("held out", images[n_learnt:])):
        if not any(image.cells.any() for image in part):
            raise InputError(
                f"nothing is marked in the {counted(len(part), 'slide')} {said} ({part[0].name}); give slides with "
                "something to find, other --masks, finer pixels, or another --seed"
            )
    return images


def _network_of(request: WholeRequest) -> tuple[nn.Module, Field]:
    network, field = new_whole_network(request.network, request.settings.seed)
    check_block(request.settings.block, field)
    return network, field


def split_slides(request: WholeRequest) -> tuple[list[Path], list[Path]]:
    """Slides to learn from, and those held out; drawn by the seed.

    Raises
    ------
    UsageError
        There are fewer than two.
    """
    slides = sorted(request.slides, key=lambda slide: slide.name)
    if len(slides) < 2:
        raise UsageError(
            f"{counted(len(slides), 'slide')}: one is held out to choose the best epoch by; give two or more"
        )
    n_held_out = min(max(1, round(request.validation * len(slides))), len(slides) - 1)
    order = generator_of(request.settings.seed, "validation").permutation(len(slides))
    held_out = set(order[:n_held_out].tolist())
    return (
        [slide for number, slide in enumerate(slides) if number not in held_out],
        [slide for number, slide in enumerate(slides) if number in held_out],
    )


def common_spacing(slides: Sequence[KeptSlide]) -> float | None:
    """µm per pixel that all images have, to 2 %; None where no slide says.

    Raises
    ------
    InputError
        They differ, or some do not say; names two.
    """
    first = slides[0].facts
    for slide in slides:
        one, other = first.um_px, slide.facts.um_px
        if (one is None) != (other is None):
            who = first.path if one is None else slide.facts.path
            raise InputError(f"{who}: does not say how large its pixels are, as others do; give --slide-mpp")
        if one is not None and other is not None and not 1 / _ALIKE <= one / other <= _ALIKE:
            raise InputError(
                f"{slide.facts.path}: its pixels are {other:g} µm, those of {first.path.name} {one:g} µm; bring all to "
                "one size with --mpp"
            )
    return first.um_px


def _facts(
    request: WholeRequest, settings: WholeSettings, slides: Sequence[KeptSlide], n_learnt: int, weights: bytes
) -> dict[str, Any]:
    marks = " ".join(slide.mark for slide in slides)
    crop = settings.crop
    return {
        "--network": f"{request.network} {weights.hex()[:16]}",
        "--crop": "whole" if crop is None else f"{crop[0]}x{crop[1]}",
        "--block": f"{settings.block[0]}x{settings.block[1]}",
        "--learning-rate": settings.learning_rate,
        "--steps": settings.steps,
        "--seed": settings.seed,
        "set of slides, labels or pixel size": f"{n_learnt} {hashlib.sha256(marks.encode()).hexdigest()[:16]}",
    }


def _card(
    request: WholeRequest,
    settings: WholeSettings,
    text: SegmentationText,
    field: Field,
    training: ExactTraining,
    split: tuple[Sequence[Path], Sequence[Path]],
) -> str:
    """The model card in Markdown."""
    row: Mapping[str, Any] = training.log.rows[best_epoch(training) - 1]
    labels = (
        "the recipe of Remedios et al. (2023)" if request.images.masks is None else f"files in `{request.images.masks}`"
    )
    spacing = "pixels of unknown size" if text.mpp is None else f"{text.mpp:g} µm per pixel"
    seen = "whole images" if settings.crop is None else f"crops of {settings.crop[0]} x {settings.crop[1]} pixels"
    lines = [
        f"# Model `{text.name}`",
        "",
        f"Tells {text.classes[1]} from {text.classes[0]}, pixel by pixel, at {spacing}. Intended use: "
        f"{claim_of(text.intended_use) or 'not stated; not for diagnosis'}.",
        "",
        "Made by",
        "",
        f"    {request.command}",
        "",
        f"Network `{request.network}`, total stride {field.total_stride} pixels, halo {field.halo}; labels by "
        f"{labels}; {seen}, one a step, with the exact gradient of all its pixels.",
        "",
        f"Slides to learn from: {', '.join(slide.name for slide in split[0])}.",
        "",
        f"Slides held out, by which the epoch was chosen: {', '.join(slide.name for slide in split[1])}. Dice's "
        f"coefficient on them, whole: mean {row[DICE]:.4f}, lowest {row[f'{DICE}_lowest']:.4f}, after epoch "
        f"{row['epoch']} of {training.epoch}.",
        "",
    ]
    return "\n".join(lines)
