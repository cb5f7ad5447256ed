"""``pyramidai train``: a model package from annotated slides."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.cli.command_line import recorded_command
from pyramidai_mpi.training.architectures import ARCHITECTURES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pyramidai_mpi.models.package import ModelPackage
    from pyramidai_mpi.training.per_level import Progress

_PATH = click.Path(path_type=Path)


@click.command("train")
@click.argument("slides", nargs=-1, required=True, type=_PATH, metavar="SLIDE...")
@click.option("--truth", type=_PATH, required=True, metavar="DIR", help="Annotations, one file a slide.")
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
    help="Normalises each slide's stain, in training and by the package.",
)
@click.option(
    "--stain-target",
    type=_PATH,
    metavar="SLIDE",
    help="Whose colours all slides get.  [default: Macenko's own; for reinhard the first slide trained on]",
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
    truth: Path,
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
    stain_target: Path | None,
    seed: int,
    device: str,
    precision: str,
    threads: int | None,
    work: Path | None,
    quiet: bool,
) -> int:
    """Train one network a level on annotated SLIDEs and write a package.

    Slides are split into 60 % to train, 20 % to choose the best epoch and 20 % to test. The same command goes on where
    a stopped training was.
    """
    from pyramidai_mpi.base.errors import InputError, StorageError, UsageError
    from pyramidai_mpi.store.files.placing import check_free

    check_free(output)
    if len({slide.resolve() for slide in slides}) < len(slides):
        raise UsageError("a slide is named twice; it could train and test at once")
    if stain_target is not None and stain == "none":
        raise UsageError("--stain-target needs --stain macenko or reinhard")
    try:
        from pyramidai_mpi.training.fitting import FitSettings, usable_device
    except ModuleNotFoundError as error:
        raise InputError(f"training needs {error.name}; pip install 'pyramidai-mpi[train]'") from error
    from pyramidai_mpi.training.labelled_patches import Split, TilePlan, holds_tumor, split_slides
    from pyramidai_mpi.training.per_level import accuracy_table, train_levels, write_trained

    plan = TilePlan(_bare_model(output, levels, base_mpp), truth, min_share, tiles, seed, mpp)
    chosen = usable_device(device, threads)
    split = split_slides(slides, [holds_tumor(slide, plan) for slide in slides], seed)
    if stain != "none":
        plan = plan.with_stain(stain, stain_target, split[Split.TRAIN][0])
    folder = work or output.with_name(f"{output.name}.work")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be made: {error.strerror}; name another with --work") from error
    settings = FitSettings(epochs, batch_size, learning_rate, seed, chosen, precision)
    with _bar(quiet=quiet) as show:
        results = train_levels(split, plan, arch, settings, weights, folder, show, from_finer=from_finer)
    write_trained(output, recorded_command(click.get_current_context()), split, plan, results)
    for line in accuracy_table(results):
        click.echo(line)
    click.echo(f"{output}: thresholds are 0.5; choose better ones with pyramidai tune. {folder} can be deleted")
    return 0


def _bare_model(folder: Path, levels: int, base_mpp: float) -> ModelPackage:
    """Tile size and spacings of a package that is yet to be made."""
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.models.write import SCALE_FACTOR, TILE, onnx_name

    return ModelPackage(
        folder=folder,
        name=folder.name,
        classes=("normal", "tumor"),
        positive_class=1,
        tile_size=TILE,
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
