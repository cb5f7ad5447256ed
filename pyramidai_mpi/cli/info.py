"""``pyramidai info``: describe a slide, a result, a model, a file of patches or of explained tiles."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import InputError, StorageError, input_errors, printable
from pyramidai_mpi.base.intended_use import claim_of
from pyramidai_mpi.base.part import named_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.store.results.prediction import PredictionRecord
    from pyramidai_mpi.store.results.tables import ResultFile


@click.command("info")
@click.argument(
    "what", type=click.Path(path_type=Path, readable=False), metavar="SLIDE|OUT.h5|MODEL|PATCHES|EXPLAINED.h5"
)
def command(what: Path) -> int:
    """Describe a slide, a result file, a model folder, a file of patches or of explained tiles."""
    for line in _describe(what):
        click.echo(printable(line))
    return 0


def _describe(what: Path) -> Iterator[str]:
    if what.is_dir():
        from pyramidai_mpi.slides.dicom import file_of_slide

        file = file_of_slide(what)
        return _model_lines(what) if file == what else _slide_lines(file)
    if shipped := _shipped(what):
        return _model_lines(shipped)
    if what.name == "model.yaml":
        return _model_lines(what.parent)
    if _whole(what).name.endswith(".patches.h5"):
        from pyramidai_mpi.cli import patches

        return patches.describe(what)
    if what.name.endswith(".explained.h5"):
        return _explained_lines(what)
    if what.suffix.lower() in {".h5", ".hdf5"} or _is_hdf5(what):
        return _result_lines(what)
    return _slide_lines(what)


def _whole(what: Path) -> Path:
    """The file that it is a part of, else itself."""
    named = named_part(what)
    return what if named is None else named[0]


def _shipped(what: Path) -> Path | None:
    from pyramidai_mpi.models.shipped import shipped_models

    # whatever is there under a name goes first, as with --model
    return None if os.path.lexists(what) else shipped_models().get(os.fspath(what))


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
    spacing = (
        f"{info.mpp:g} µm/px" if info.mpp else f"{info.mpp_flaw or 'not stored'}: runs need --mpp, patches --slide-mpp"
    )
    yield f"spacing    {spacing}"
    yield f"bounds     x {info.l0_bounds[0]}, y {info.l0_bounds[1]}"
    yield f"quickhash  {quickhash(path)}"
    if info.openslide_quickhash1:
        yield f"openslide  quickhash-1 {info.openslide_quickhash1}"
    for level, (size, downsample) in enumerate(zip(info.stored_sizes, info.stored_downsamples, strict=True)):
        spacing = f", {info.mpp * downsample:.4g} µm/px" if info.mpp else ""
        how = "" if info.stored_exact[level] else ", between its pixels: interpolated"
        yield f"stored level {level}: {size[0]} x {size[1]} px, 1/{downsample:g}{spacing}{how}"
    for width, height in info.no_levels:
        yield f"left out: a page of {width} x {height} px that is no smaller version of the slide"


def _model_lines(folder: Path) -> Iterator[str]:
    from pyramidai_mpi.models.dense.trial import sharing_in_words
    from pyramidai_mpi.run.networks import open_package
    from pyramidai_mpi.tuning.tuned_package import tuning_in_words

    package = open_package(folder, check_networks=True)
    positive = "not said" if package.positive_class is None else package.classes[package.positive_class]
    yield f"model      {package.name}"
    yield from _claim_lines(package.intended_use)
    if package.is_encoder:
        yield f"encoder    features, {package.levels[0].batch} tiles at a time; no classes"
    else:
        yield f"classes    {', '.join(package.classes)}; positive: {positive}"
    if tuning := tuning_in_words(package):
        yield f"tuning     {tuning}"
    yield f"tiles      {package.tile_size} x {package.tile_size} px, scale factor {package.scale_factor}"
    if package.sees_position:
        yield "inputs     pixels, and position: a tile's middle over the slide's size"
    for level in package.levels:
        spacing = package.base_mpp * package.scale_factor**level.level
        yield (
            f"level {level.level}: {spacing:g} µm/px, {_threshold(package, level)}{level.onnx_path.name}, "
            f"sha256 {level.sha256[:16]}..."
        )
    if package.is_encoder:
        return
    if package.aggregator is not None:
        entry = package.aggregator
        yield (
            f"aggregator {entry.method}, task {entry.task}: {', '.join(entry.classes)}, {entry.onnx_path.name}, sha256 "
            f"{entry.sha256[:16]}..."
        )
        return  # such models are run on tiles side by side alone
    try:
        sharing = sharing_in_words(folder)
    except (InputError, StorageError) as error:  # the package itself was tried before
        yield f"sharing    whether overlapping windows can share its work could not be tried: {error}"
        return
    for level, words in zip(package.levels, sharing, strict=True):
        yield f"level {level.level}: {words}"


def _threshold(package: ModelPackage, level: ModelLevel) -> str:
    return "" if package.is_encoder else f"threshold {level.threshold:g}, "


def _claim_lines(intended_use: str | None) -> Iterator[str]:
    if claim := claim_of(intended_use):
        yield f"use        {claim}"


def _explained_lines(path: Path) -> Iterator[str]:
    from pyramidai_mpi.export.explained.layer import gain_of
    from pyramidai_mpi.export.explained.words import CAVEAT, title_of
    from pyramidai_mpi.store.explanations.reader import read_explanation

    said = read_explanation(path)
    tiles, slide = said.tiles, said.slide
    yield f"explained  {path} (complete, written {said.created} by version {said.software_version})"
    yield f"slide      {slide.name}, {slide.l0_size[0]} x {slide.l0_size[1]} px at {slide.mpp:g} µm/px"
    yield f"quickhash  {slide.quickhash}"
    yield f"model      {said.model.name}, network sha256 {said.model.level_sha256[said.level][:16]}..."
    yield from _claim_lines(said.model.intended_use)
    yield f"method     {title_of(said)}"
    yield f"settings   {said.settings_text}"
    height, width = tiles.maps.shape[1:]
    yield f"tiles      {counted(len(tiles), 'tile')}, {len(said.failed)} unreadable; maps of {width} x {height} px"
    repeats = [value for value in tiles.repeatability.tolist() if value == value]
    if repeats:
        mean = sum(repeats) / len(repeats)
        yield f"repeats    maps of half the masks correlate to {min(repeats):.3f} at least, {mean:.3f} in the mean"
    if gain := gain_of(said):
        yield (
            f"areas      against random maps, in the mean: deletion {gain[0]:.3f} below, insertion {gain[1]:.3f} above"
        )
    yield f"meaning    {CAVEAT[0].lower()}{CAVEAT[1:]}"
    yield f"digest     {said.digest}"


def _result_lines(path: Path) -> Iterator[str]:
    from pyramidai_mpi.base.types import Decision, outcome_names
    from pyramidai_mpi.store.results.reader import open_result, read_part, read_summary, stated_digest
    from pyramidai_mpi.store.results.tables import model_in_words, read_header

    with open_result(path, may_be_part=True) as file:
        header = read_header(file)
        summary, digest, slide, part = read_summary(file), stated_digest(file, header), header.slide, read_part(file)
        dense_lines = _dense_lines(file)
    yield f"result     {path} (complete, written {summary.created} by version {summary.software_version})"
    if part is not None:
        yield f"part       {part.part.number} of {part.part.of}: join them with pyramidai merge"
    yield f"slide      {summary.slide}, {summary.l0_size[0]} x {summary.l0_size[1]} px at {summary.mpp:g} µm/px"
    yield f"quickhash  {slide.quickhash}"
    if slide.openslide_quickhash1:
        yield f"openslide  quickhash-1 {slide.openslide_quickhash1}"
    words = f": {model_in_words(header)}" if header.is_of_encoder else ""
    yield f"model      {summary.model}{words}"
    yield from _claim_lines(summary.intended_use)
    if header.encoder is not None:
        kept = header.levels[0]
        yield f"encoder    {header.encoder.name}: {kept.n_features} features a tile of level 0 ({kept.feature_type})"
    if summary.warning and part is None:
        yield f"warning    {summary.warning}"
    yield from dense_lines
    for level in () if dense_lines else reversed(summary.levels):
        outcome = outcome_names(level.level)[Decision.ZOOM]
        threshold = "" if header.is_of_encoder else f", threshold {level.threshold:g}"
        zoomed = "" if header.is_of_encoder else f"{level.zoomed} {outcome}, "
        yield (
            f"level {level.level}: {level.spacing_um_px:.3g} µm/px{threshold}: "
            f"{counted(level.analysed, 'tile')}, {zoomed}{level.unreadable} unreadable"
        )
    if header.prediction is not None:
        yield from _prediction_lines(header.prediction)
    for name, value in summary.execution.items():
        yield f"  {name}: {value}"
    yield f"digest     {digest}"
    if header.prediction is not None:
        yield f"prediction digest {header.prediction.digest}"


def _prediction_lines(record: PredictionRecord) -> Iterator[str]:
    yield f"prediction {record.words} ({record.task}, {record.method} of {counted(record.n_tiles, 'tile')})"
    if record.n_tiles:
        names = ", ".join(
            f"{name} {value:.6g}" for name, value in zip(record.logit_names, record.logits.tolist(), strict=True)
        )
        yield f"logits     {names}: the sum of all tiles' contributions and the constant"
    yield f"aggregator sha256 {record.sha256}"


def _dense_lines(file: ResultFile) -> list[str]:
    """The levels of a result with strides, the coarsest first; nothing of another."""
    from pyramidai_mpi.export.cells import is_dense
    from pyramidai_mpi.export.summary import level_figures
    from pyramidai_mpi.store.results.tables import read_execution, read_header

    header = read_header(file)
    if not is_dense(header):
        return []
    way = str(read_execution(file).attributes.get("stride_mode", "not said"))
    lines = []
    for n, record in reversed(list(enumerate(header.levels))):
        found = level_figures(file, header, n)
        blocks = f"stride {record.cell}, " if record.block > 1 or record.cell != header.model.tile_size else ""
        if record.block > 1:
            blocks += (
                f"{counted(header.n_tiles[n], 'block')} of {record.block} x {record.block} cells (computed by {way}), "
            )
        around = f" and {found.around} around the blocks" if found.around else ""
        counts = f"{counted(found.analysed, 'window')}{around} looked at, {found.zoomed} {found.outcome}"
        lines.append(
            f"level {n}: {record.spacing_um_px:.3g} µm/px, threshold {record.threshold:g}: {blocks}{counts}, "
            f"{found.unreadable} unreadable"
        )
    return lines
