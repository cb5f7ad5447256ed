"""What is said of a slide whose patches have been extracted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode
from pyramidai_mpi.base.types import index_of
from pyramidai_mpi.run.pool.messages import SlideEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyramidai_mpi.base.settings import RunSettings
    from pyramidai_mpi.pyramid.cells import CellRule
    from pyramidai_mpi.store.patches.writer import PatchContent

_MOST_FAILED_LISTED = 20


def end_of(settings: RunSettings, rule: CellRule, content: PatchContent) -> SlideEnd:
    """How a slide has ended whose file is in its place."""
    name, path = settings.slide.path.name, settings.output.path
    n_patches, n_failed = len(content.patches), len(content.failed)
    if n_failed and not (n_patches or content.n_refused) and content.part is None:
        why = content.failed["reason"][0].decode(errors="replace")
        return SlideEnd(
            ExitCode.BAD_INPUT,
            f"{settings.slide.path}: none of its {n_failed} patches can be read ({why}); {path} lists them: remove it, "
            "and extract again once the slide can be read",
        )
    if content.part is not None:
        name = f"{name}: {content.part.part.words}"
    lines = [f"{name}: {_counted(n_patches, rule, content)}: {path}", *_failed_lines(content)]
    return SlideEnd(ExitCode.TILES_FAILED if n_failed else ExitCode.OK, "\n  ".join(lines))


def _counted(n_patches: int, rule: CellRule, content: PatchContent) -> str:
    """Patches by label, what is short of what was asked for, and what else there is of note."""
    label, names = content.patches["label"], content.settings.label_names
    parts = ["1 patch" if n_patches == 1 else f"{n_patches} patches"]
    if names:
        by_label = [f"{int((label == number).sum())} {name}" for number, name in enumerate(names)]
        parts[0] += f" ({', '.join([*by_label, f'{int((label < 0).sum())} unknown'])})"
    if not content.n_cells:
        parts[0] += ", as no cell holds enough tissue"
    elif not n_patches and not rule.wanted().any():
        parts[0] += ", as no cell with enough tissue has the label, or the place, that is asked for"
    for kind, draw in rule.draws:
        found = n_patches if kind is None else int((label == kind).sum())
        what = "" if kind is None else f" {names[kind]}"
        if len(draw.index) < draw.n and not rule.may_refuse:
            parts[0] += f", all there are{what and f' of{what}'}: fewer than the {draw.n} asked for"
        elif rule.may_refuse and found < draw.n:
            parts.append(f"{found} of {draw.n}{what} asked for, of {len(draw.index)} cells")
    if content.n_refused:
        parts.append(f"{content.n_refused} too white or black")
    if content.kept is not None:
        parts.append(
            f"{counted(len(content.kept.numbers), 'stored tile')} of {int(content.kept.lengths.sum()) / 1e6:.1f} MB"
        )
    if content.images is not None:
        coding = "JPEG" if content.images.store.coding == "jpeg" else "raw"
        parts.append(f"{coding} pictures of {int(content.images.lengths.sum()) / 1e6:.1f} MB")
    if len(content.failed):
        parts.append(f"{len(content.failed)} unreadable")
    return "; ".join(parts)


def _failed_lines(content: PatchContent) -> Iterator[str]:
    """The unreadable patches in words, the first of them one by one."""
    failed = content.failed[:_MOST_FAILED_LISTED]
    corners = content.settings.grid(content.slide.l0_size).l0_corners(0, index_of(failed))
    for record, (l0_x, l0_y) in zip(failed, corners, strict=True):
        yield (
            f"unreadable: col {record['col']} row {record['row']} at level-0 pixel ({l0_x}, {l0_y}): "
            f"{record['reason'].decode(errors='replace')}"
        )
    if len(content.failed) > len(failed):
        yield f"... and {len(content.failed) - len(failed)} more; all are in /failed of the file"
