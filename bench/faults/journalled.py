"""How many tiles are known after a run was disturbed: those of finished results, and of the journals of other slides.

Whatever was analysed and is not known is done again. Files of a journal may be gone because the result they led to is
there, and a file that several slides share may hold tiles of slides that have a result; so slides are counted one by
one. All of it holds only while nobody writes.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.format import CHECK_BYTES, FRAME, HEAD, parse_frame_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path


def known_tiles(outputs: Iterable[Path], tiles_of_result: Callable[[Path], int]) -> int:
    """Tiles of slides that have a result, and tiles in the journals of those that have none.

    Parameters
    ----------
    outputs
        The results to be, all in one folder.
    tiles_of_result
        How many tiles were analysed for a result that is there.
    """
    known = 0
    for output in outputs:
        if output.exists():
            known += tiles_of_result(output)
            continue
        folder = JournalFolder.of(output)
        manifest = folder.manifest() if folder.exists else None
        if manifest is not None:
            known += sum(
                tiles_by_tag(journal.path / name)[manifest.tag]
                for journal in (folder, JournalFolder.shared_beside(output))
                for name in journal.files()
            )
    return known


def tiles_by_tag(path: Path) -> Counter[int]:
    """Tiles in the whole frames of one file of a journal, by the tag of their slide."""
    found: Counter[int] = Counter()
    data = path.read_bytes()
    if len(data) < HEAD.size:
        return found
    _, _, length = HEAD.unpack_from(data)
    at = HEAD.size + length + CHECK_BYTES
    while (head := parse_frame_head(data[at : at + FRAME.size])) is not None:
        at += FRAME.size + head.length + CHECK_BYTES
        if at > len(data):  # torn
            break
        found[head.slide] += head.n_tiles
    return found
