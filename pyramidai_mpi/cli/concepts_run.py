"""What the ranks of ``pyramidai concepts`` do together, from patches to the folder of figures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from pyramidai_mpi import __version__
from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.csv_text import csv_row
from pyramidai_mpi.base.errors import InputError, UsageError, printable
from pyramidai_mpi.base.hashes import file_sha256
from pyramidai_mpi.cli.concept_patches import Looker, draw_sample, level_for, read_files
from pyramidai_mpi.cli.concept_table import read_concepts
from pyramidai_mpi.explain.concepts.examination import Chance, examined
from pyramidai_mpi.explain.concepts.findings import Row, document_text, packed, record_dtype, table_lines, unpacked
from pyramidai_mpi.explain.concepts.measures import GREY_LEVELS, MEASURES, PAIR_UM
from pyramidai_mpi.export.replaced_folder import FolderKind, replaced_folder
from pyramidai_mpi.models.backward.layers import layers_of
from pyramidai_mpi.models.read import read_package
from pyramidai_mpi.models.shipped import find_model

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.cli.concept_order import ConceptOrder
    from pyramidai_mpi.cli.concept_patches import Sample
    from pyramidai_mpi.models.backward.layers import Layer
    from pyramidai_mpi.models.package import ModelLevel, ModelPackage
    from pyramidai_mpi.ranks.unit_pool import UnitPool

TABLE, DOCUMENT, PATCHES = "concepts.csv", "concepts.json", "patches.csv"
FORMAT = "pyramidai-concepts/1"
OUTPUT = FolderKind(
    "what `pyramidai concepts` has made", DOCUMENT, r"concepts\.(csv|json)|patches\.csv|(r2|br)\.(png|svg)"
)


@dataclass(frozen=True)
class _Work:
    """What a rank knows before the work."""

    package: ModelPackage
    level: ModelLevel
    layers: tuple[Layer, ...]
    sample: Sample
    given: npt.NDArray[np.float64]
    concepts: tuple[str, ...]
    looker: Looker
    facts: dict[str, Any]


def find_concepts(pool: UnitPool, order: ConceptOrder, *, quiet: bool, again: bool) -> int:
    """Do it all, and say on rank 0 what came of it. Collective.

    Parameters
    ----------
    quiet
        Whether nothing is said.
    again
        Whether ranks were lost meanwhile, and this is another attempt.
    """
    pool.on_rank0(lambda: OUTPUT.check(order.output, overwrite=order.overwrite))
    work = pool.on_all(lambda: _prepare(order))
    pool.agree_on(hashlib.sha256(repr(work.facts).encode()).digest(), "model, patches, nuclei or tables")
    say = click.echo if pool.rank == 0 and not quiet else _silent
    if not again:
        say(
            printable(
                f"{len(work.sample)} patches of {counted(len(work.sample.patients), 'patient')}, "
                f"{counted(len(work.concepts), 'concept')}, {counted(len(work.layers), 'layer')} of "
                f"{work.package.name}, class {work.package.classes[work.looker.column]}"
            )
        )
    looked = np.asarray(pool.rows(work.looker.counts, work.looker.look, work.looker.dtype), work.looker.dtype)
    values = values_of(looked, work.given)
    rows = _examine(pool, order, work, looked, values)
    pool.on_rank0(lambda: _write(order, work, looked["probability"], values, rows))
    for line in _said(rows):
        say(printable(line))
    say(printable(f"tables, JSON{' and figures' if order.plots else ''} in {order.output}"))
    return 0


def values_of(looked: npt.NDArray[np.void], given: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """All concepts of all patches, float64 (N, C), those that were brought (N, G) last.

    NaN of patches that the network has not seen: what was brought of them has no activations to stand beside.
    """
    values = np.concatenate([looked["values"], given], axis=1)
    values[np.isnan(looked["probability"])] = np.nan
    return values


def _silent(_text: str) -> None:
    """Nothing is said."""


def _prepare(order: ConceptOrder) -> _Work:
    package = read_package(find_model(order.model)).with_positive_class(order.class_name, "--class")
    kind, files = read_files(order.places)
    level = level_for(package, kind, order.level)
    sample = draw_sample(kind, files, order.most, order.folds, order.seed)
    known = layers_of(level, package)
    by_name = {layer.name: layer for layer in known}
    for name in order.layers:
        if name not in by_name:
            raise UsageError(f"--layers {name}: model {package.name} has {', '.join(by_name) or 'none'}")
        if order.layers.count(name) > 1:
            raise UsageError(f"--layers {name}: is there twice; name it once")
    layers = tuple(by_name[name] for name in order.layers) or known
    if not layers:
        raise InputError(f"{level.onnx_path}: has no layers of maps to look into")
    tables = [read_concepts(path) for path in order.tables]
    concepts = (*order.names, *(name for table in tables for name in table.names))
    if len(set(concepts)) < len(concepts):
        twice = next(name for name in concepts if concepts.count(name) > 1)
        raise UsageError(f"--concepts: {twice} is there twice; leave it out, or name a table's column otherwise")
    names = [sample.files[file].path.name for file in sample.file.tolist()]
    given = [table.of(names, sample.number.tolist()) for table in tables]
    looker = Looker(sample, package, level, layers, package.score_column, order.nuclei, order.names)
    return _Work(
        package,
        level,
        layers,
        sample,
        np.concatenate([np.zeros((len(sample), 0)), *given], axis=1),
        concepts,
        looker,
        _facts(order, package, level, layers, sample, looker),
    )


def _facts(
    order: ConceptOrder,
    package: ModelPackage,
    level: ModelLevel,
    layers: Sequence[Layer],
    sample: Sample,
    looker: Looker,
) -> dict[str, Any]:
    """All that the figures follow from."""
    known = {path.name: file_sha256(path) for path in looker.nuclei_files()}
    tables = {path.name: file_sha256(path) for path in order.tables}
    n_of = np.bincount(sample.file, minlength=len(sample.files)).tolist()
    return {
        "format": FORMAT,
        "software_version": __version__,
        "model": {
            "name": package.name,
            "level": level.level,
            "network_sha256": level.sha256,
            "class": package.classes[package.score_column],
            "layers": {layer.name: list(layer.shape) for layer in layers},
        },
        "patches": [
            {
                "file": printable(one.path.name),
                "digest": one.digest,
                "slide": printable(one.slide),
                "patient": printable(sample.patients[int(sample.patient[sample.file == file][0])])
                if n_of[file]
                else None,
                "patches": n_of[file],
            }
            for file, one in enumerate(sample.files)
        ],
        "size": sample.kind.size,
        "spacing": None if np.isnan(sample.kind.spacing) else sample.kind.spacing,
        "nuclei": "auto" if order.nuclei is None else known,
        "concepts": {**{name: MEASURES[name] for name in order.names}, **tables},
        "settings": {
            "folds": order.folds,
            "most": order.most,
            "draws": order.draws,
            "random": order.n_shuffles,
            "seed": order.seed,
            "activations": "mean of each map over the patch",
            "grey_levels": GREY_LEVELS,
            "pair_um": PAIR_UM,
        },
    }


def _examine(
    pool: UnitPool, order: ConceptOrder, work: _Work, looked: npt.NDArray[np.void], values: npt.NDArray[np.float64]
) -> list[Row]:
    """Every concept in every layer, on all ranks."""
    ends = np.cumsum([0, *(layer.shape[0] for layer in work.layers)])
    chance = Chance(order.seed, order.n_shuffles, order.draws)
    dtype = record_dtype(order.n_shuffles, max(layer.shape[0] for layer in work.layers))
    pairs = [(layer, concept) for layer in range(len(work.layers)) for concept in range(len(work.concepts))]
    sample = work.sample

    def examine(unit: int) -> npt.NDArray[np.void]:
        layer, concept = pairs[unit]
        maps = slice(int(ends[layer]), int(ends[layer + 1]))
        activations, gradients = looked["activations"][:, maps], looked["gradients"][:, maps]
        found = examined(activations, gradients, values[:, concept], sample.patient, sample.fold, chance, concept)
        return packed(found, dtype)

    records = pool.rows([1] * len(pairs), examine, dtype)
    return [
        Row(work.layers[layer].name, work.concepts[concept], unpacked(record))
        for (layer, concept), record in zip(pairs, records, strict=True)
    ]


def _write(
    order: ConceptOrder,
    work: _Work,
    probability: npt.NDArray[np.float32],
    values: npt.NDArray[np.float64],
    rows: Sequence[Row],
) -> None:
    with replaced_folder(order.output, OUTPUT, overwrite=order.overwrite) as folder:
        (folder / TABLE).write_text("".join(table_lines(rows)), encoding="utf-8")
        (folder / PATCHES).write_text("".join(_patch_lines(work, probability, values)), encoding="utf-8")
        (folder / DOCUMENT).write_text(document_text(work.facts, rows), encoding="utf-8")
        if order.plots:
            _draw(folder, rows)


def _draw(folder: Path, rows: Sequence[Row]) -> None:
    from pyramidai_mpi.base.figures import rc_context
    from pyramidai_mpi.explain.concepts.plots import FIGURES, draw

    for name in FIGURES:
        figure = draw(name, rows)
        for ending in ("png", "svg"):
            # no date and no random names: equal figures are equal files
            with rc_context({"svg.hashsalt": name}):
                metadata = {"Date": None} if ending == "svg" else {"Software": None}
                figure.savefig(folder / f"{name}.{ending}", format=ending, dpi=150, metadata=metadata)


def _patch_lines(work: _Work, probability: npt.NDArray[np.float32], values: npt.NDArray[np.float64]) -> Iterator[str]:
    sample = work.sample
    yield csv_row(["file", "patch", "slide", "patient", "fold", "probability", *work.concepts])
    for row in range(len(sample)):
        one = sample.files[int(sample.file[row])]
        numbers = [float(probability[row]), *values[row].tolist()]
        shown = [None if np.isnan(value) else f"{value:.9g}" for value in numbers]
        patient = sample.patients[int(sample.patient[row])]
        where = [one.path.name, int(sample.number[row]), one.slide, patient, int(sample.fold[row])]
        yield csv_row([*where, *shown])


def _said(rows: Sequence[Row]) -> Iterator[str]:
    """A line a concept: the layer that foretells it best."""
    width = max(len(row.concept) for row in rows)
    for concept in dict.fromkeys(row.concept for row in rows):
        found = [row for row in rows if row.concept == concept and row.finding is not None]
        if not found:
            yield f"{concept:{width}}  not measured: too few patients have it, or it does not vary"
            continue
        best = max(found, key=lambda row: _r2(row))
        finding = best.finding
        assert finding is not None
        line = f"{concept:{width}}  {best.verdict}: R2 {finding.r2.value:.2f} in {best.layer}"
        if best.means_something:
            line += f", TCAV {finding.tcav.value:.2f} [{finding.tcav.low:.2f}, {finding.tcav.high:.2f}]"
            line += "" if np.isnan(finding.br.value) else f", Br {finding.br.value:.2f}"
        yield line


def _r2(row: Row) -> float:
    assert row.finding is not None
    return row.finding.r2.value
