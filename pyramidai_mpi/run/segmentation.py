"""Segmenting slides: their blocks as one pool of work, and a mask for each."""

from __future__ import annotations

import hashlib
import logging
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from pyramidai_mpi.analyses.segment import Segment, blocks_of, unpack_block
from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode, InputError, InternalError, PyramidError
from pyramidai_mpi.base.intended_use import claim_of, scores_mean_nothing
from pyramidai_mpi.base.segment_order import MASK_ENDING, PROBABILITY_ENDING
from pyramidai_mpi.models.engines.segmentation_network import SegmentationNetwork
from pyramidai_mpi.models.engines.segmentation_trial import try_segmentation_network
from pyramidai_mpi.models.segmentation_package import load_segmentation_package
from pyramidai_mpi.process.stop import StopWish
from pyramidai_mpi.ranks.alike import agree_alike
from pyramidai_mpi.ranks.collectives import agree_on, on_all, on_rank0
from pyramidai_mpi.run.deciding import check_same, values_of
from pyramidai_mpi.run.facts import Kind
from pyramidai_mpi.run.file_pool import FileOutcome, FilePool
from pyramidai_mpi.run.output import lock_output
from pyramidai_mpi.run.pool.messages import SlideEnd
from pyramidai_mpi.run.pool.workload import SlideOpener
from pyramidai_mpi.run.resume import begin_slide
from pyramidai_mpi.run.segment_levels import BlockOpener, facts_of_blocks
from pyramidai_mpi.run.start import check_start, private
from pyramidai_mpi.store.files.placing import check_target
from pyramidai_mpi.store.masks.reader import read_facts
from pyramidai_mpi.store.masks.writer import place_mask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from mpi4py import MPI

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.base.segment_order import SegmentOrder
    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.models.segmentation_package import SegmentationPackage
    from pyramidai_mpi.pyramid.halo_blocks import HaloBlocks
    from pyramidai_mpi.pyramid.mask_labels import Labels
    from pyramidai_mpi.run.facts import Difference, Facts
    from pyramidai_mpi.run.pool.messages import SlideDescription
    from pyramidai_mpi.run.pool.owner import Beginning, Collected
    from pyramidai_mpi.run.progress import RunProgress
    from pyramidai_mpi.run.resume import Journals
    from pyramidai_mpi.store.files.lock import OutputLock

log = logging.getLogger(__name__)

_MOST_LISTED = 20


def probability_file(mask: Path) -> Path:
    """Where the probabilities beside a mask lie."""
    stem = mask.name.removesuffix(MASK_ENDING) if mask.name.endswith(MASK_ENDING) else mask.stem
    return mask.with_name(stem + PROBABILITY_ENDING)


def segment_slides(
    comm: MPI.Intracomm,
    each: Sequence[RunSettings],
    order: SegmentOrder,
    report_slide: Callable[[FileOutcome], None] = lambda _outcome: None,
    stop: StopWish | None = None,
    show: Callable[[RunProgress], None] | None = None,
) -> tuple[FileOutcome, ...] | None:
    """Segment slides as one pool of work and write a mask for each. Collective.

    Parameters
    ----------
    comm
        The ranks.
    each
        One run's settings a slide, the same on all ranks; their model is the network's package.
    order
        Which masks.
    report_slide
        Called on rank 0 for each slide as it ends.
    stop
        Says whether to stop early; None for never.
    show
        Told on rank 0 how far they are, from time to time; None for nobody.

    Returns
    -------
    tuple or None
        How each slide has ended, in the order given, on rank 0; None on the others.

    Raises
    ------
    StoppedError
        On all ranks, when any of them was asked to stop. Finished slides have their masks, the others their journals.
    PyramidError
        The same on all ranks, for what concerns all slides.
    """
    with private(comm) as own:
        check_start(own, each)
        if own.size > 1:
            agree_alike(own, {"masks": [f"{field.name} {getattr(order, field.name)}" for field in fields(order)]})
        segment = Segment(order, _load(own, each[0].model.path))
        return FilePool(own, each, _Masks(each, segment), report_slide, stop or StopWish(), show).to_the_end()


def _load(comm: MPI.Intracomm, folder: Path) -> SegmentationNetwork:
    """The network on all ranks, once a child of rank 0 has survived it. Collective."""
    package = on_all(comm, lambda: load_segmentation_package(folder))
    said = hashlib.sha256(f"{package.sha256} {package.yaml_text}".encode()).digest()
    agree_on(comm, said, f"{folder}: the network")
    on_rank0(comm, lambda: try_segmentation_network(folder))
    if comm.rank == 0 and scores_mean_nothing(package.text.intended_use):
        log.warning("network %s: %s", package.text.name, claim_of(package.text.intended_use))
    return on_all(comm, lambda: SegmentationNetwork(package))


class _Masks:
    """What a segmentation makes of slides."""

    units = "blocks"

    def __init__(self, each: Sequence[RunSettings], segment: Segment) -> None:
        self._each, self.analysis = each, segment
        self._blocks = opener = BlockOpener(segment.network.package, segment.order)
        self.opener = SlideOpener(
            lambda slide: opener.describe(each[slide].slide),
            lambda slide, description: opener.follow(each[slide].slide, description),
            lambda slide: str(each[slide].slide.path),
        )

    def compare(self, settings: RunSettings) -> tuple[list[Difference], ExitCode, Facts]:
        """See that the mask there is the one that would be made."""
        path = settings.output.path
        found = read_facts(path)
        slide = self._blocks.open(settings.slide)  # needs no trial: it is the file that was opened then
        slide.pyramid.reader.close()
        facts = facts_of_blocks(slide, self._blocks.package, self._blocks.order)
        mixed = check_same(
            f"{path}: is the mask of a run with",
            found,
            facts,
            accept_mixed=False,
            otherwise="name another output, or replace it with --overwrite",
        )
        if self._blocks.order.probability and not probability_file(path).is_file():
            raise InputError(f"{probability_file(path)}: is missing beside its mask; make both with --overwrite")
        return mixed, ExitCode.TILES_FAILED if found.get("n_unknown") else ExitCode.OK, facts

    def check_target(self, settings: RunSettings) -> None:
        """See that the probabilities can be placed beside the mask."""
        if self._blocks.order.probability:
            output = settings.output
            may_replace = output.overwrite or output.resume
            check_target(probability_file(output.path), overwrite=may_replace, inputs=[settings.slide.path])

    def finisher(self, journals: Journals, locks: dict[int, OutputLock], _ranks: npt.NDArray[np.void]) -> _Finisher:
        """See `file_pool.Finisher`."""
        return _Finisher(self._each, self.analysis, self._blocks, journals, locks)


class _Finisher:
    """Begins and finishes the slides of a segmentation."""

    def __init__(
        self,
        each: Sequence[RunSettings],
        segment: Segment,
        opener: BlockOpener,
        journals: Journals,
        locks: dict[int, OutputLock],
    ) -> None:
        self._each, self._segment, self._opener = each, segment, opener
        self._journals, self._locks = journals, locks
        self._facts: dict[int, Facts] = {}

    def begin(self, number: int, description: SlideDescription) -> Beginning:
        """Take a slide's place on the disk, and find where to go on from; raises as `finishing.Finisher.begin`."""
        settings = self._each[number]
        slide, rule = self._opener.known(settings.slide, description)
        lock = self._locks.pop(number, None) or lock_output(settings, patient=False)
        try:
            facts = self._facts[number] = facts_of_blocks(slide, self._opener.package, self._segment.order)
            return begin_slide(settings, slide, rule, self._segment, facts, self._journals, lock)
        except BaseException:
            lock.release()
            raise

    def write(self, number: int, collected: Collected) -> SlideEnd:
        """Write the mask of a complete slide, by this rank alone; raises whatever keeps it from being written."""
        settings, order = self._each[number], self._segment.order
        slide, output = collected.beginning.slide, collected.beginning.output
        try:
            mask = _Collected.of(slide, self._segment, collected)
            facts = values_of(self._facts.pop(number), Kind.SLIDE, Kind.MODEL, Kind.SETTING, Kind.VERSION)
            facts |= mask.said(self._opener.package)
            um_px = mask.um_px or None
            path = settings.output.path
            if order.probability:
                may_replace = output.replaces or settings.output.resume or settings.output.overwrite
                place_mask(
                    probability_file(path),
                    mask.size,
                    mask.rows(1),
                    um_px=um_px,
                    facts=facts,
                    is_probability=True,
                    overwrite=may_replace,
                    check=output.check_lock,
                )
            place_mask(
                path, mask.size, mask.rows(0), um_px=um_px, facts=facts, overwrite=output.replaces,
                check=output.check_lock,
            )  # fmt: skip
            output.remove_journal()
        finally:
            with suppress(PyramidError):
                collected.close()
        return _end_of(settings, self._opener.package, mask, collected.failed.rows)


@dataclass(frozen=True)
class _Collected:
    """All blocks of a slide, as they lie in the spool of its owner.

    Attributes
    ----------
    slide
        As it was described.
    blocks
        Of the slide, in pixels of the network's.
    downsample
        Pixels of the network's to one of the mask.
    places
        Place and length of each block in the spool, int64 (rows, columns, 2).
    n_layers
        Of each block: labels, and probabilities where they are kept.
    records
        `RECORD` of all blocks.
    spool
        Reads from a place on so many bytes.
    """

    slide: OpenSlide
    blocks: HaloBlocks
    downsample: int
    places: npt.NDArray[np.int64]
    n_layers: int
    records: npt.NDArray[np.void]
    spool: Callable[[int, int], bytes]

    @classmethod
    def of(cls, slide: OpenSlide, segment: Segment, collected: Collected) -> _Collected:
        order, text = segment.order, segment.network.package.text
        blocks = blocks_of(slide.pyramid, text, order.side(text.total_stride))
        records = collected.records.rows
        columns, rows = blocks.shape
        lengths = records["kept_bytes"].astype(np.int64)
        places = np.zeros((rows, columns, 2), np.int64)
        places[records["row"], records["col"]] = np.stack([np.cumsum(lengths) - lengths, lengths], axis=1)
        if collected.kept is None or not places[..., 1].all():
            raise InternalError(f"{slide.source.path}: not all of its {columns} x {rows} blocks were kept")
        n_layers = 2 if order.probability else 1
        return cls(slide, blocks, order.downsample, places, n_layers, records, collected.kept.read)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the mask."""
        width, height = (-(-extent // self.downsample) for extent in self.blocks.size)
        return width, height

    @property
    def um_px(self) -> float:
        """µm per pixel of the mask; 0 where nobody knows."""
        return self.slide.pyramid.plans[0].spacing * self.downsample

    @property
    def n_positive(self) -> int:
        """Pixels of the mask at or above the threshold."""
        return int(self.records["positive"].sum())

    @property
    def n_unknown(self) -> int:
        """Those of which nothing is known."""
        return int(self.records["unknown"].sum())

    def said(self, package: SegmentationPackage) -> dict[str, Any]:
        """What the mask says of itself beside what decides it."""
        text, info = package.text, self.slide.pyramid.reader.info
        return {
            "slide": info.name,
            "network": text.name,
            "classes": list(text.classes),
            "intended_use": text.intended_use,
            "um_px": self.um_px,
            "l0_downsample": self.slide.pyramid.plans[0].downsample * self.downsample,
            "l0_bounds": list(info.l0_bounds),
            "n_positive": self.n_positive,
            "n_unknown": self.n_unknown,
        }

    def rows(self, layer: int) -> Callable[[int, int], Labels]:
        """What `place_mask` asks for, of labels (0) or probabilities (1)."""
        side = self.blocks.side // self.downsample
        held: dict[int, Labels] = {}

        def give(top: int, bottom: int) -> Labels:
            wanted = range(top // side, (bottom - 1) // side + 1)
            for row in [row for row in held if row not in wanted]:
                del held[row]
            for row in wanted:
                if row not in held:
                    held[row] = self._row_of_blocks(row, layer)
            parts = [held[row][max(top - row * side, 0) : bottom - row * side] for row in wanted]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)

        return give

    def _row_of_blocks(self, row: int, layer: int) -> Labels:
        found = []
        for col in range(self.blocks.shape[0]):
            width, height = (-(-extent // self.downsample) for extent in self.blocks.own(col, row).size)
            packed = self.spool(*self.places[row, col].tolist())
            found.append(unpack_block(packed, (height, width), self.n_layers)[layer])
        return np.concatenate(found, axis=1)


def _end_of(
    settings: RunSettings, package: SegmentationPackage, mask: _Collected, failed: npt.NDArray[np.void]
) -> SlideEnd:
    """How a slide has ended whose mask is in its place."""
    path, name = settings.output.path, settings.slide.path.name
    n_pixels, n_unknown = mask.size[0] * mask.size[1], mask.n_unknown
    if n_unknown == n_pixels:
        why = failed["reason"][0].decode(errors="replace")
        line = f"{settings.slide.path}: nothing of it can be read ({why}); remove {path}, and try again once it can be"
        return SlideEnd(ExitCode.BAD_INPUT, line)
    area = f", {mask.n_positive * mask.um_px**2 / 1e6:.2f} mm²" if mask.um_px else ""
    share = 100 * mask.n_positive / n_pixels
    line = f"{name}: {share:.1f} % {package.text.classes[1]}{area}, in {counted(len(mask.records), 'block')}: {path}"
    if not n_unknown:
        return SlideEnd(ExitCode.OK, line)
    lines = [f"{line}; {100 * n_unknown / n_pixels:.2g} % is unknown (255), as it cannot be read:"]
    corners = mask.slide.pyramid.grid.l0_cell_corners(0, np.stack([failed["col"], failed["row"]], axis=1))
    for record, (l0_x, l0_y) in list(zip(failed, corners, strict=True))[:_MOST_LISTED]:
        why = record["reason"].decode(errors="replace")
        lines.append(f"unreadable: block at level-0 pixel ({l0_x}, {l0_y}): {why}")
    if len(failed) > _MOST_LISTED:
        lines.append(f"... and {len(failed) - _MOST_LISTED} more blocks")
    return SlideEnd(ExitCode.TILES_FAILED, "\n  ".join(lines))
