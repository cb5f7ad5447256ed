"""Parts of a result joined to the result that a run in one piece gives."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode, InputError, InternalError, OutputExistsError, PyramidError, UsageError
from pyramidai_mpi.base.types import Decision, prediction_dtype
from pyramidai_mpi.pyramid.tree import canonical_rows
from pyramidai_mpi.run.aggregation import FACT, SlideAggregator
from pyramidai_mpi.run.assemble import RANK_DTYPE, failed_lines, looked_at_in_words, n_reference, tree_by
from pyramidai_mpi.run.auditing import audit_of_parts
from pyramidai_mpi.run.deciding import attributes_of, values_of
from pyramidai_mpi.run.networks import open_package
from pyramidai_mpi.run.parts import FoundPart, check_all_there, facts_in, joined_facts, one_of_each
from pyramidai_mpi.run.shared_passes import error_in_words, error_of_parts
from pyramidai_mpi.run.write import fill_features, write_result_alone
from pyramidai_mpi.store.files.feature_spool import FeatureSpool
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.files.placing import check_target
from pyramidai_mpi.store.results.dense import read_block_rule
from pyramidai_mpi.store.results.reader import open_result, read_part, read_rule
from pyramidai_mpi.store.results.result import BATCH_DTYPE, Execution, Result, TissueRecord
from pyramidai_mpi.store.results.summary import account_of
from pyramidai_mpi.store.results.tables import (
    damage_is_named,
    iter_column,
    iter_rows,
    read_execution,
    read_header,
    read_mode,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.models.aggregator_entry import AggregatorEntry
    from pyramidai_mpi.pyramid.blocks import BlockRule
    from pyramidai_mpi.run.facts import Facts
    from pyramidai_mpi.store.results.tables import Header, ResultFile

log = logging.getLogger(__name__)

_SECONDS = ("tissue_s", "load_s", "analyse_s", "cohort_slide_s")


@dataclass(frozen=True)
class Joined:
    """A file that parts were joined to: exit code as of a run, and lines for the user, the first about the whole."""

    exit_code: ExitCode
    lines: tuple[str, ...]


def look_at_part(path: Path) -> FoundPart:
    """What a part of a result says of itself.

    Raises
    ------
    InputError
        It is damaged, or no part of a result.
    """
    with open_result(path, may_be_part=True) as file:
        record = read_part(file)
        if record is None:
            raise InputError(f"{path}: is a whole result, and no part of one; leave it out")
        header = read_header(file)
        mixed = str(read_execution(file).attributes.get("mixed", ""))
        try:
            facts = facts_in(record)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return FoundPart(path, record.part, facts, str(header.digest), header.slide.name, mixed)


def join_results(
    found: Sequence[FoundPart], output: Path, *, overwrite: bool, accept_mixed: bool, model: Path | None = None
) -> Joined:
    """Join the parts of a result and write it.

    Parameters
    ----------
    found
        Parts of one slide, in any order.
    output
        The result to be. One of the same content is left alone.
    overwrite
        Replace another file of that name.
    accept_mixed
        See `joined_facts`.
    model
        The model's folder, of which is needed what aggregates the tiles of a slide.

    Raises
    ------
    InputError
        Parts are missing, of several runs, or there twice with different content; the model is another one.
    UsageError
        The parts are of a model that predicts slides, and it is not given.
    OutputExistsError, StorageError
        Nothing is left under that name or another.
    """
    found = one_of_each(found)
    facts, mixed = joined_facts(found, accept_mixed=accept_mixed)
    check_all_there(found)
    entry = _aggregator_of(found[0], facts, model)
    exists = output.is_file() and not overwrite
    check_target(output, overwrite=overwrite or exists, inputs=[one.path for one in found])
    spool = FeatureSpool()
    try:
        result, predictions, widths = _joined(found, attributes_of(facts, mixed), spool)
        if entry is not None:
            order = np.argsort(canonical_rows(predictions))  # of one level
            aggregator = SlideAggregator(entry, widths[0])
            result = aggregator.with_prediction(result, result.slide.name, lambda: spool.read(0, order, widths[0]))
        if exists:
            _check_equal(output, result)
            line = f"{result.slide.name}: is there already, the same: {output}"
            return Joined(_code_of(result), (line,))
        lock = OutputLock.take(output, patient=True)
        try:
            write_result_alone(
                result,
                output,
                overwrite=overwrite,
                check=lock.check,
                fill_features=partial(fill_features, spool, predictions, widths) if any(widths) else None,
            )
        finally:
            lock.release()
    finally:
        spool.close()
    approximate = error_in_words(result.execution.attributes)
    lines = (_summary(result, len(found), output), *([approximate] if approximate else []), *failed_lines(result))
    return Joined(_code_of(result), lines)


def _aggregator_of(first: FoundPart, facts: Facts, model: Path | None) -> AggregatorEntry | None:
    """What the parts' model aggregates tiles with; None where it is of tiles alone."""
    sha256 = values_of(facts).get(FACT)
    if sha256 is None:
        return None
    if model is None:
        raise UsageError(
            f"{first.path}: is of a model that predicts whole slides, for which it is needed; name it with --model DIR"
        )
    package = open_package(model, check_networks=True)
    if package.aggregator is None or package.aggregator.sha256 != sha256:
        raise InputError(f"{model}: is not the model of {first.path}: it has another aggregator; name that one")
    return package.aggregator


def _joined(
    found: Sequence[FoundPart], attributes: dict[str, str | int | float], spool: FeatureSpool
) -> tuple[Result, npt.NDArray[np.void], tuple[int, ...]]:
    """The result; its predictions, in whose order the spool has the features; and the widths of these."""
    predictions, failed, executions, sha256 = [], [], [], None
    for one in found:
        with open_result(one.path, may_be_part=True) as file:
            header = read_header(file)
            if one is found[0]:
                first, rule, mode, blocks = header, read_rule(file), read_mode(file), read_block_rule(file)
            predictions.append(_predictions(file, header, blocks))
            with damage_is_named(file):
                failed.append(file["failed"][...])
            executions.append(read_execution(file))
            _spool_features(file, header, spool)
            sha256 = sha256 or header.slide.sha256
    every = np.concatenate(predictions)
    try:
        tree = tree_by(blocks, every, rule, mode)
        all_failed = np.sort(np.concatenate(failed), order=["level", "row", "col"])
    except (InternalError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{found[0].path}: this and the other parts do not make one tree: {error!s:.200}") from error
    result = Result(
        slide=replace(first.slide, sha256=sha256),
        model=first.model,
        tissue=TissueRecord(rule.tissue.mask, first.mask_downsample, first.tissue_method),
        levels=first.levels,
        tree=tree,
        l0_coords=tuple(rule.grid.l0_corners(n, tree.levels[n].index) for n in range(rule.grid.n_levels)),
        failed=all_failed,
        mode=str(mode),
        n_reference_tiles=n_reference(blocks, rule),
        execution=joined_execution(executions, attributes, "tiles_from_journal"),
        encoder=first.encoder,
    )
    return result, every, tuple(level.n_features for level in first.levels)


def _predictions(file: ResultFile, header: Header, blocks: BlockRule | None) -> npt.NDArray[np.void]:
    """`prediction_dtype` records of a part, or those of its blocks, level 0 first, row-major."""
    dtype = prediction_dtype(len(header.model.classes)) if blocks is None else blocks.record
    found = [np.empty(0, dtype)]
    for level in range(len(header.levels)):
        for rows in iter_rows(file, level):
            records = np.zeros(len(rows), dtype)
            records["level"], records["col"], records["row"] = level, rows.index[:, 0], rows.index[:, 1]
            records["decision"], records["probability"] = rows.decision, rows.probability
            side = header.levels[level].side
            if header.levels[level].block > 1:
                for name in ("score", "state"):
                    with damage_is_named(file):
                        cells = file[f"levels/{level}/{name}"][rows.first_row : rows.first_row + len(rows)]
                    records[name][:, :side, :side] = cells
            found.append(records)
    return np.concatenate(found)


def _spool_features(file: ResultFile, header: Header, spool: FeatureSpool) -> None:
    for level, record in enumerate(header.levels):
        if record.n_features:
            for block in iter_column(file, level, "features"):
                spool.append(level, block)


def joined_execution(
    executions: Sequence[Execution], attributes: dict[str, str | int | float], from_journal: str
) -> Execution:
    """How a joined file came about: by all ranks of all parts, which are numbered on.

    Parameters
    ----------
    attributes
        What decides the whole, see `run.deciding.attributes_of`.
    from_journal
        Name of the attribute that counts what earlier starts had done.

    Raises
    ------
    InputError
        The accounts of the parts are none.
    """
    ranks, batches, n_ranks = [np.zeros(0, RANK_DTYPE)], [np.zeros(0, BATCH_DTYPE)], 0
    try:
        for one in executions:
            ranks.append(_renumbered(one.ranks, RANK_DTYPE, n_ranks))
            batches.append(_renumbered(one.batches, BATCH_DTYPE, n_ranks))
            n_ranks += len(one.ranks)
        told = [one.attributes for one in executions]
        hosts = sorted({host for each in told for host in str(each.get("hosts", "")).split(", ")})
        seconds = {name: max(float(each.get(name, 0)) for each in told) for name in _SECONDS if name in told[0]}
        kept = {
            name: value
            for name, value in told[0].items()
            if name not in {"part", "mixed", "audit_percent"} and not name.startswith("approximate_")
        }
        joined = {
            **kept,
            **attributes,
            **seconds,
            **error_of_parts(told),
            **audit_of_parts(told),
            "hosts": ", ".join(hosts),
            "n_ranks": n_ranks,
            "joined_parts": len(executions),
            from_journal: sum(int(each.get(from_journal, 0)) for each in told),
        }
    except (ValueError, TypeError) as error:
        raise InputError(f"the parts do not tell how they came about: {error!s:.200}") from error
    return Execution(joined, np.concatenate(ranks), np.concatenate(batches))


def _renumbered(records: npt.NDArray[np.void], dtype: np.dtype[Any], n_before: int) -> npt.NDArray[np.void]:
    """Records of ranks, or of their batches, as this version has them, after those of so many other ranks."""
    changed = np.zeros(len(records), dtype)
    for name in set(dtype.names or ()) & set(records.dtype.names or ()):
        changed[name] = records[name]
    changed["rank"] += n_before
    return changed


def _check_equal(output: Path, result: Result) -> None:
    """See that a file that is there is what the parts give.

    Raises
    ------
    OutputExistsError
        It is not.
    """
    why = "holds another result"
    try:
        with open_result(output) as file:
            header = read_header(file)
        widths = [level.n_features for level in header.levels]
        predicted = "" if result.prediction is None else result.prediction.digest(result.digest())
        is_same = predicted == ("" if header.prediction is None else header.prediction.digest)
        if is_same and header.digest == result.digest() and widths == [one.n_features for one in result.levels]:
            return
    except PyramidError as error:
        why = str(error)
    raise OutputExistsError(f"{output}: exists already ({why}); use --overwrite to replace it, or name another with -o")


def _code_of(result: Result) -> ExitCode:
    if 0 < result.tree.n_tiles == sum(result.tree.count(Decision.UNREADABLE).values()):
        return ExitCode.BAD_INPUT
    return ExitCode.TILES_FAILED if result.tree.n_failed else ExitCode.OK


def _summary(result: Result, n_parts: int, output: Path) -> str:
    tree = result.tree
    failed = f", {tree.n_failed} unreadable" if tree.n_failed else ""
    warning = account_of(result, 0.0).warning
    predicted = "" if result.prediction is None else f", {result.prediction.record.words}"
    return (
        f"{result.slide.name}: {counted(n_parts, 'part')} joined: {looked_at_in_words(result)}, "
        f"{result.n_positive} positive{failed}{predicted}: {output}{f'; {warning}' if warning else ''}"
    )
