"""``pyramidai info``: describe a slide, a result or a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.errors import input_errors, printable

if TYPE_CHECKING:
    from collections.abc import Iterator


@click.command("info")
@click.argument("what", type=click.Path(path_type=Path), metavar="SLIDE|OUT.h5|MODEL")
def command(what: Path) -> int:
    """Describe a slide, a result file or a model folder."""
    for line in _describe(what):
        click.echo(printable(line))
    return 0


def _describe(what: Path) -> Iterator[str]:
    if what.is_dir():
        return _model_lines(what)
    if what.name == "model.yaml":
        return _model_lines(what.parent)
    if what.suffix.lower() in {".h5", ".hdf5"} or _is_hdf5(what):
        return _result_lines(what)
    return _slide_lines(what)


def _is_hdf5(path: Path) -> bool:
    if path.exists() and not path.is_file():
        return False  # a pipe would never answer
    with input_errors(path), path.open("rb") as file:
        return file.read(8) == b"\x89HDF\r\n\x1a\n"


def _slide_lines(path: Path) -> Iterator[str]:
    from pyramidai_mpi.slides.identity import quickhash
    from pyramidai_mpi.slides.readers.choice import open_slide

    reader = open_slide(path)
    info = reader.info
    reader.close()
    yield f"slide      {info.name} ({info.vendor})"
    yield f"size       {info.l0_size[0]} x {info.l0_size[1]} px"
    spacing = f"{info.mpp:g} µm/px" if info.mpp else f"{info.mpp_flaw or 'not stored'}: runs need --mpp"
    yield f"spacing    {spacing}"
    yield f"bounds     x {info.l0_bounds[0]}, y {info.l0_bounds[1]}"
    yield f"quickhash  {quickhash(path)}"
    for level, (size, downsample) in enumerate(zip(info.stored_sizes, info.stored_downsamples, strict=True)):
        spacing = f", {info.mpp * downsample:.4g} µm/px" if info.mpp else ""
        yield f"stored level {level}: {size[0]} x {size[1]} px, 1/{downsample:g}{spacing}"
    for width, height in info.no_levels:
        yield f"left out: a page of {width} x {height} px that is no smaller version of the slide"


def _model_lines(folder: Path) -> Iterator[str]:
    from pyramidai_mpi.run.networks import open_package

    package = open_package(folder, check_networks=True)
    positive = "not said" if package.positive_class is None else package.classes[package.positive_class]
    yield f"model      {package.name}"
    if package.random_weights:
        yield "weights    RANDOM: for benchmarks only, its answers mean nothing"
    yield f"classes    {', '.join(package.classes)}; positive: {positive}"
    yield f"tiles      {package.tile_size} x {package.tile_size} px, scale factor {package.scale_factor}"
    for level in package.levels:
        spacing = package.base_mpp * package.scale_factor**level.level
        yield (
            f"level {level.level}: {spacing:g} µm/px, threshold {level.threshold:g}, {level.onnx_path.name}, "
            f"sha256 {level.sha256[:16]}..."
        )


def _result_lines(path: Path) -> Iterator[str]:
    from pyramidai_mpi.store.results.reader import digest_in, open_result, read_summary

    with open_result(path) as file:
        summary, digest = read_summary(file), digest_in(file)
    yield f"result     {path} (complete, written {summary.created} by version {summary.software_version})"
    yield f"slide      {summary.slide}, {summary.l0_size[0]} x {summary.l0_size[1]} px at {summary.mpp:g} µm/px"
    yield f"model      {summary.model}"
    if summary.warning:
        yield f"warning    {summary.warning}"
    for level in reversed(summary.levels):
        outcome = "zoomed into" if level.level else "positive"
        yield (
            f"level {level.level}: {level.spacing_um_px:.3g} µm/px, threshold {level.threshold:g}: "
            f"{level.analysed} tiles, {level.zoomed} {outcome}, {level.unreadable} unreadable"
        )
    for name, value in summary.execution.items():
        yield f"  {name}: {value}"
    yield f"digest     {digest}"
