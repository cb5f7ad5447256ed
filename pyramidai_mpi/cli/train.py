"""``pyramidai train``: a model package from annotated slides, or from files of labelled patches."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pyramidai_mpi.base.extras import require_extra
from pyramidai_mpi.base.intended_use import IntendedUse
from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.training.architectures import ARCHITECTURES, check_side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.training.labelled_patches import Split
    from pyramidai_mpi.training.patch_files import PatchPlan
    from pyramidai_mpi.training.per_level import Material, Progress

_PATH = click.Path(path_type=Path, readable=False)


@click.command("train")
@click.argument("slides", nargs=-1, required=True, type=_PATH, metavar="SLIDE...")
@click.option("--truth", type=_PATH, metavar="DIR", help="Annotations, one file a slide.")
@click.option(
    "--patches",
    is_flag=True,
    help="Instead of --truth: the SLIDEs are files of labelled patches, or folders of them. A network of one level, of "
    "their size and µm per pixel.",
)
@click.option(
    "--positive-label",
    metavar="NAME",
    help="Of --patches; all others are negative.  [default: tumor, or of two the second]",
)
@click.option(
    "--split",
    type=_PATH,
    metavar="CSV",
    help="Of --patches: columns split (train, validation, test) and file, slide or patient; or with --fold a table of "
    "patches folds.  [default: drawn by patient]",
)
@click.option(
    "--fold", type=click.IntRange(0), metavar="N", help="Of --split: the fold that tests; the next one validates."
)
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder of the package.")
@click.option(
    "--arch",
    type=click.Choice([one.name for one in ARCHITECTURES]),
    default="small",
    show_default=True,
    help="; ".join(f"{one.name}: {one.help}" for one in ARCHITECTURES) + ".",
)
@click.option("--weights", type=_PATH, metavar="FILE", help="InceptionV3's state dict to start from.")
@click.option("--from-finer", is_flag=True, help="Start each level above 0 from what the level below it has learnt.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True)
@click.option("--batch-size", type=click.IntRange(2), default=32, show_default=True)
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-4, show_default=True)
@click.option(
    "--tiles", type=click.IntRange(1), default=200, show_default=True, help="Most per slide, level and class."
)
@click.option("--levels", type=click.IntRange(1, 15), default=3, show_default=True)
@click.option("--base-mpp", type=click.FloatRange(0, min_open=True), default=0.25, show_default=True)
@click.option("--mpp", type=click.FloatRange(0, min_open=True), help="µm per pixel of slides that do not say.")
@click.option(
    "--min-share",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.5,
    show_default=True,
    help="Tumour's share of a positive tile's tissue.",
)
@click.option(
    "--stain",
    type=click.Choice(["none", "macenko", "reinhard"]),
    default="none",
    show_default=True,
    help="Normalises stain, in training and by the package.",
)
@click.option(
    "--stain-per",
    type=click.Choice(["slide", "tile"]),
    default="slide",
    show_default=True,
    help="Estimates it once a slide, or of each tile by itself; tiles where it cannot be are left out.",
)
@click.option(
    "--stain-target",
    type=_PATH,
    metavar="SLIDE",
    help="Whose colours all slides get.  [default: Macenko's own; for reinhard the first slide trained on]",
)
@click.option(
    "--intended-use",
    type=click.Choice([use.value for use in IntendedUse if use is not IntendedUse.BENCHMARK]),
    help="What the model may be used for, for its package: demonstration where the slides are generated.  "
    "[default: not said]",
)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--device", default="auto", show_default=True, help="torch's name, such as cpu or cuda:0.")
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="Of the convolutions while training; bfloat16 is faster where the processor has it.",
)
@click.option("--threads", type=click.IntRange(1), help="Of torch.  [default: all cores]")
@click.option("--work", type=_PATH, metavar="DIR", help="Keeps tiles and states.  [default: OUTPUT.work]")
@click.option("-q", "--quiet", is_flag=True, help="No bar.")
def command(
    slides: tuple[Path, ...],
    truth: Path | None,
    patches: bool,
    positive_label: str | None,
    split: Path | None,
    fold: int | None,
    output: Path,
    arch: str,
    weights: Path | None,
    from_finer: bool,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    tiles: int,
    levels: int,
    base_mpp: float,
    mpp: float | None,
    min_share: float,
    stain: str,
    stain_per: str,
    stain_target: Path | None,
    intended_use: str | None,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
    work: Path | None,
    quiet: bool,
) -> int:
    """Train one network a level on annotated SLIDEs, or on files of labelled patches, and write a package.

    Slides are split into 60 % to train, 20 % to choose the best epoch and 20 % to test; of patches, patients are. The
    same command goes on where a stopped training was.
    """
    from pyramidai_mpi.base.errors import StorageError, UsageError
    from pyramidai_mpi.store.files.placing import check_free

    check_free(output)
    if len({slide.resolve() for slide in slides}) < len(slides):
        raise UsageError("a slide is named twice; it could train and test at once")
    _check_options(patches=patches, truth=truth)
    if stain_target is not None and stain == "none":
        raise UsageError("--stain-target needs --stain macenko or reinhard")
    if stain_per != "slide" and stain == "none":
        raise UsageError(f"--stain-per {stain_per} needs --stain macenko or reinhard")
    require_extra("train", "training")
    from pyramidai_mpi.training.fitting import FitSettings, usable_device
    from pyramidai_mpi.training.labelled_patches import Split, TilePlan, holds_tumor, split_slides
    from pyramidai_mpi.training.per_level import accuracy_table, train_levels, write_trained

    chosen = usable_device(device, threads)
    plan: Material
    if truth is None:
        plan, parts = _patch_plan(slides, output, positive_label, split, fold, tiles, seed)
    else:
        of_slides = TilePlan(_bare_model(output, levels, base_mpp), truth, min_share, tiles, seed, mpp)
        parts = split_slides(slides, [holds_tumor(slide, of_slides) for slide in slides], seed)
        first = parts[Split.TRAIN][0]
        plan = of_slides if stain == "none" else of_slides.with_stain(stain, stain_target, first, stain_per)
    check_side(arch, plan.model.tile_size)
    folder = work or output.with_name(f"{output.name}.work")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}; name another with --work") from error
    settings = FitSettings(epochs, batch_size, learning_rate, seed, chosen, precision)
    with _bar(quiet=quiet) as show:
        results = train_levels(parts, plan, arch, settings, weights, folder, show, from_finer=from_finer)
    write_trained(output, recorded_command(click.get_current_context()), parts, plan, results, intended_use)
    for line in accuracy_table(results):
        click.echo(line)
    click.echo(f"{output}: thresholds are 0.5; choose better ones with pyramidai tune. {folder} can be deleted")
    return 0


_OF_SLIDES = ("truth", "levels", "base_mpp", "mpp", "min_share", "stain", "stain_per", "stain_target", "from_finer")
_OF_PATCHES = ("positive_label", "split", "fold")


def _check_options(*, patches: bool, truth: Path | None) -> None:
    """See that options of slides and of patches are not mixed."""
    from pyramidai_mpi.base.errors import UsageError

    context = click.get_current_context()
    for name in _OF_SLIDES if patches else _OF_PATCHES:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = f"--{name.replace('_', '-')}"
            raise UsageError(f"{option} is for {'annotated slides' if patches else 'files of patches, with --patches'}")
    if truth is None and not patches:
        raise UsageError("Missing option '--truth', or --patches for files of labelled patches")


def _patch_plan(
    words: tuple[Path, ...],
    output: Path,
    positive: str | None,
    table: Path | None,
    fold: int | None,
    per_class: int,
    seed: int,
) -> tuple[PatchPlan, dict[Split, list[Path]]]:
    """What is drawn of files of patches, and their split; says what there is."""
    from pyramidai_mpi.base.counts import counted
    from pyramidai_mpi.training.patch_files import LabelledFiles, PatchPlan

    labelled = LabelledFiles.read(words, positive)
    numbers = ", ".join(f"{n} {name}" for n, name in zip(labelled.counts(), labelled.classes, strict=True))
    left_out = f"; {labelled.n_unknown} without a known label are left out" if labelled.n_unknown else ""
    click.echo(f"{counted(len(labelled.files), 'file')}: {numbers}{left_out}")
    model = _bare_model(output, 1, labelled.spacing, labelled.size, labelled.classes)
    return PatchPlan(model, labelled, per_class, seed), labelled.split(seed, table, fold)


def _bare_model(
    folder: Path, levels: int, base_mpp: float, side: int = 0, classes: tuple[str, str] = ("normal", "tumor")
) -> ModelPackage:
    """Tile size and spacings of a package that is yet to be made."""
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.models.write import SCALE_FACTOR, TILE, onnx_name

    return ModelPackage(
        folder=folder,
        name=folder.name,
        classes=classes,
        positive_class=1,
        tile_size=side or TILE,
        scale_factor=SCALE_FACTOR,
        base_mpp=base_mpp,
        stain="none",
        levels=tuple(ModelLevel(n, folder / onnx_name(n), 0.5, "") for n in range(levels)),
        yaml_text="",
    )


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """A bar that shows each progress it is called with."""
    from tqdm import tqdm

    with tqdm(unit="", disable=True if quiet else None, leave=False) as bar:

        def show(progress: Progress) -> None:
            bar.set_description(progress.what, refresh=False)
            bar.total = progress.total
            bar.n = progress.done
            bar.refresh()

        yield show
