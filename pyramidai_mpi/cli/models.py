"""``pyramidai models``: list and make model packages."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.cli.model_import import LEVELS, build_inception, import_model
from pyramidai_mpi.cli.model_option import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pyramidai_mpi.models.engines.base import SeenTiles
    from pyramidai_mpi.models.package import ModelPackage

_PATH = click.Path(path_type=Path, readable=False)


@click.group("models", no_args_is_help=False, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """List, build, import and quantise model packages."""


command.add_command(import_model)


@command.command("list", short_help="List models.")
@click.argument("folders", nargs=-1, type=_PATH, metavar="[FOLDER]...")
def list_models(folders: tuple[Path, ...]) -> int:
    """List the models that came with the program, and those in each FOLDER: a package, or a folder of packages.

    `--model` takes the names of those that came with the program, and the folders of all.
    """
    from pyramidai_mpi.base.errors import ExitCode, InputError, printable
    from pyramidai_mpi.models.read import is_package, read_package
    from pyramidai_mpi.models.shipped import shipped_models

    found = [(f"{name} (shipped)", folder) for name, folder in shipped_models().items()]
    for folder in folders:
        inside = [folder] if is_package(folder) else sorted(filter(is_package, folder.glob("*/")))
        if not inside:
            raise InputError(f"{folder}: neither holds nor is a model package, a folder with model.yaml")
        known = {each.resolve() for _, each in found}  # a shipped one may lie there
        found += [(each.name, each) for each in inside if each.resolve() not in known]
    code = ExitCode.OK
    for heading, folder in found:
        click.echo(printable(heading))
        try:
            lines = list(_lines_of(read_package(folder, check_files=False)))
        except InputError as error:
            lines, code = [f"unreadable  {error}"], ExitCode.BAD_INPUT
        for line in (*lines, f"folder      {folder}"):
            click.echo(f"  {printable(line)}")
    return code


def _lines_of(package: ModelPackage) -> Iterator[str]:
    positive = "not said" if package.positive_class is None else package.classes[package.positive_class]
    spacings = ", ".join(f"{package.base_mpp * package.scale_factor**level.level:g}" for level in package.levels)
    if claim := claim_of(package.intended_use):
        yield f"use         {claim}"
    if package.is_encoder:
        yield f"encoder     features, {package.levels[0].batch} tiles at a time; no classes"
    else:
        yield f"classes     {', '.join(package.classes)}; positive: {positive}"
    yield f"levels      {spacings} µm/px, tiles of {package.tile_size} x {package.tile_size} px"
    if package.sees_position:
        yield "inputs      pixels, and position: a tile's middle over the slide's size"


@command.command("build", short_help="Make a package of the paper's networks.")
@click.argument("architecture", type=click.Choice(["inception_v3"]), metavar="ARCHITECTURE")
@click.option("-o", "--output", type=_PATH, required=True, metavar="DIR", help="Folder of the package.")
@click.option(
    "--weights",
    type=_PATH,
    multiple=True,
    metavar="FILE",
    help="State dict saved by torch, once for all levels or once a level, level 0 first; torchvision's names.",
)
@click.option("--random", is_flag=True, help="Random weights, for benchmarks only; the package says so.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of random weights.")
@click.option("--levels", type=click.IntRange(1, 15), default=LEVELS, show_default=True)
@click.option("--threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Of every level.")
def build(
    architecture: str,
    output: Path,
    weights: tuple[Path, ...],
    random: bool,
    seed: int,
    levels: int,
    threshold: float,
) -> int:
    """Write a package with one network a level: the paper's InceptionV3 with its dense head of 224 units.

    Weights without the head (torchvision's, timm's) give a network that has still to be trained: such a package is
    labelled as random.
    """
    from pyramidai_mpi.base.errors import UsageError

    if bool(weights) == random:
        raise UsageError("give either --weights FILE or --random")
    return build_inception(output, weights, levels, seed, threshold)


@command.command("quantize", short_help="Copy a model in 8-bit integers.")
@click.argument("model", type=MODEL, metavar="MODEL")
@click.option(
    "--calibrate", type=_PATH, multiple=True, required=True, metavar="SLIDE", help="A slide whose tissue shows ranges."
)
@click.option("-o", "--output", type=_PATH, metavar="DIR", help="Folder of the package.  [default: MODEL-int8]")
@click.option("--mpp", type=click.FloatRange(0, min_open=True), help="µm per pixel of slides that do not say.")
@click.option(
    "--tiles", type=click.IntRange(2), default=64, show_default=True, help="To calibrate with, per slide and level."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the choice of tiles.")
@click.option(
    "--max-changed",
    type=click.FloatRange(0, 1),
    default=0.01,
    show_default=True,
    help="Largest share of changed decisions at which the package is written.",
)
@click.option(
    "--min-cosine",
    type=click.FloatRange(0, 1),
    default=0.99,
    show_default=True,
    help="Of an encoder: least cosine of any tile's features in integers and in float32 at which it is written.",
)
def quantize(
    model: Path,
    calibrate: tuple[Path, ...],
    output: Path | None,
    mpp: float | None,
    tiles: int,
    seed: int,
    max_changed: float,
    min_cosine: float,
) -> int:
    """Write a copy of MODEL in 8-bit integers, its convolutions or a transformer's products; report what that changes.

    Half of the tiles drawn from the slides calibrate, the other half compare the two packages, in every library that is
    installed.
    """
    import tempfile

    import numpy as np

    from pyramidai_mpi.base.errors import InputError
    from pyramidai_mpi.models.engines.backends import installed_backends
    from pyramidai_mpi.models.engines.base import SeenTiles
    from pyramidai_mpi.models.quantisation.package import quantise, write_quantised
    from pyramidai_mpi.models.shipped import find_model
    from pyramidai_mpi.run.networks import open_package
    from pyramidai_mpi.run.sampling import sample_tiles
    from pyramidai_mpi.store.files.placing import check_free

    package = open_package(find_model(model), check_networks=True).with_positive_class(None)
    folder = output or model.with_name(f"{model.name}-int8")
    check_free(folder)
    drawn = sample_tiles(calibrate, package, 2 * tiles, seed, mpp=mpp)
    halves = [
        [
            SeenTiles(*(np.concatenate([some[i::2] for some in kind]) for kind in zip(*parts, strict=True)))
            for parts in drawn
        ]
        for i in (0, 1)
    ]
    if package.is_encoder:
        return _quantize_encoder(package, [half[0] for half in halves], folder, min_cosine)
    with tempfile.TemporaryDirectory() as scratch:
        done = quantise(package, halves[0], halves[1], Path(scratch), installed_backends())
    click.echo(
        "level  integers in  tiles  tiles/s float32  tiles/s int8  faster  max diff  mean diff  changed  positives kept"
    )
    for level in done.report.levels:
        click.echo(
            f"{level.level:5}  {level.backend:11}  {level.tiles:5}  {level.float_tiles_per_s:15.1f}  "
            f"{level.int8_tiles_per_s:12.1f}  {level.int8_tiles_per_s / level.float_tiles_per_s:6.2f}  "
            f"{level.max_difference:8.4f}  {level.mean_difference:9.5f}  {level.changed:7}  "
            f"{level.kept_positives} of {level.float_positives}"
        )
    share, backend = done.report.worst
    if not share <= max_changed:
        raise InputError(
            f"{model}: in integers {share:.2%} of the decisions change ({backend}), more than --max-changed "
            f"{max_changed:.2%}; nothing was written; calibrate with more slides, or allow it"
        )
    write_quantised(package, done, folder)
    click.echo(f"{folder}: at most {share:.2%} of the decisions change ({backend})")
    return 0


def _quantize_encoder(package: ModelPackage, halves: Sequence[SeenTiles], folder: Path, min_cosine: float) -> int:
    """The same of an encoder, whose features are compared by their angle."""
    import tempfile

    from pyramidai_mpi.base.errors import InputError
    from pyramidai_mpi.models.engines.backends import installed_backends
    from pyramidai_mpi.models.quantisation.encoder import quantise_encoder, write_quantised_encoder

    with tempfile.TemporaryDirectory() as scratch:
        done = quantise_encoder(package, halves[0], halves[1], Path(scratch), installed_backends())
    click.echo(
        "computed by            tiles  tiles/s float32  tiles/s  faster  least cosine  median cosine  less the mean"
    )
    for one in done.reports:
        click.echo(
            f"{one.backend:11} {one.precision:9}  {one.tiles:5}  {one.float_tiles_per_s:15.1f}  "
            f"{one.tiles_per_s:7.1f}  {one.tiles_per_s / one.float_tiles_per_s:6.2f}  {one.worst:12.5f}  "
            f"{one.median:13.5f}  {one.apart:13.5f}"
        )
    worst = done.worst
    if not worst.worst >= min_cosine:
        raise InputError(
            f"{package.folder}: in integers the least cosine of a tile's features is {worst.worst:.4f} "
            f"({worst.backend}), below --min-cosine {min_cosine:g}; nothing was written; run it with --backend "
            "openvino --precision bfloat16, calibrate with more slides, or allow it"
        )
    write_quantised_encoder(package, done, folder)
    click.echo(f"{folder}: least cosine {worst.worst:.4f} ({worst.backend}), {done.batch} tiles at a time")
    return 0
