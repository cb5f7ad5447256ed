"""Parts of a file of patches joined to the file that an extraction in one piece gives."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import ExitCode, InputError, OutputExistsError, PyramidError
from pyramidai_mpi.base.types import index_keys, index_of, tile_keys
from pyramidai_mpi.run.deciding import attributes_of
from pyramidai_mpi.run.merging import Joined, joined_execution
from pyramidai_mpi.run.parts import FoundPart, check_all_there, facts_in, joined_facts, one_of_each
from pyramidai_mpi.store.files.lock import OutputLock
from pyramidai_mpi.store.files.placing import check_target
from pyramidai_mpi.store.patches.reader import PatchFile
from pyramidai_mpi.store.patches.record import PLACES, TILE_INDEX_DTYPE, patch_digest
from pyramidai_mpi.store.patches.writer import KeptImages, KeptTiles, PatchContent, place_patches

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from pyramidai_mpi.store.patches.record import TileStore
    from pyramidai_mpi.store.results.result import Execution

_MOST_OPEN = 16


def look_at_patch_part(path: Path) -> FoundPart:
    """What a part of a file of patches says of itself.

    Raises
    ------
    InputError
        It is damaged, or no part.
    """
    with PatchFile(path, may_be_part=True) as file:
        header = file.header
        if header.part is None:
            raise InputError(f"{path}: is a whole file of patches, and no part of one; leave it out")
        mixed = str(file.execution().attributes.get("mixed", ""))
        try:
            facts = facts_in(header.part)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        return FoundPart(path, header.part.part, facts, header.digest, header.slide.name, mixed)


def join_patches(found: Sequence[FoundPart], output: Path, *, overwrite: bool, accept_mixed: bool) -> Joined:
    """Join the parts of a file of patches and write it; parameters and errors as `merging.join_results`."""
    found = one_of_each(found)
    facts, mixed = joined_facts(found, accept_mixed=accept_mixed)
    check_all_there(found)
    exists = output.is_file() and not overwrite
    check_target(output, overwrite=overwrite or exists, inputs=[one.path for one in found])
    with closing(_OpenParts([one.path for one in found])) as files:
        content, execution, indices = _joined(found, attributes_of(facts, mixed), files)
        if exists:
            _check_equal(output, content, *indices)
            return Joined(_code_of(content), (f"{content.slide.name}: is there already, the same: {output}",))
        lock = OutputLock.take(output, patient=True)
        try:
            place_patches(output, content, execution, overwrite=overwrite, check=lock.check)
        finally:
            lock.release()
    unreadable = f"; {len(content.failed)} unreadable, listed in /failed of the file" if len(content.failed) else ""
    n_parts = counted(len(found), "part")
    line = f"{content.slide.name}: {n_parts} joined: {len(content.patches)} patches{unreadable}: {output}"
    return Joined(_code_of(content), (line,))


def _joined(
    found: Sequence[FoundPart], attributes: dict[str, str | int | float], files: _OpenParts
) -> tuple[PatchContent, Execution, tuple[npt.NDArray[np.void], npt.NDArray[np.void]]]:
    """The whole; and the records of its stored tiles and of its pictures."""
    patches, failed, executions, tile_indices, image_indices, headers = [], [], [], [], [], []
    for one in found:
        with PatchFile(one.path, may_be_part=True) as file:
            file.check_tables()
            headers.append(file.header)
            patches.append(file.patches)
            failed.append(file.failed)
            executions.append(file.execution())
            tile_indices.append(file.tile_index)
            image_indices.append(file.image_index)
    first = headers[0]
    for one, header in zip(found, headers, strict=True):
        # of one run they are the same; a part that says otherwise was not made by this program
        same = [(each.slide.quickhash, each.n_cells, each.settings.pixels, each.tiles) for each in (first, header)]
        if same[0] != same[1]:
            raise InputError(f"{one.path}: says other things of the slide than {found[0].path}; extract it again")
    most = first.settings.n_random * max(1, len(first.settings.label_names))
    if most and sum(map(len, patches)) > most:
        # a draw that goes on until enough cells pass looks at all of them, of which a part has only some
        raise InputError(
            f"{found[0].path}: this and the other parts hold more patches than the {most} that were to be drawn; a "
            "draw with limits has to be done in one piece, without --part"
        )
    every, (part, row) = np.concatenate(patches), _places([len(table) for table in patches])
    if first.settings.places == PLACES[0]:
        keys = index_keys(index_of(every))
        order = np.argsort(keys, kind="stable")
        if (np.diff(keys[order]) == 0).any():
            raise InputError(f"{found[0].path}: this and the other parts hold a patch twice; extract them again")
        every, part, row = every[order], part[order], row[order]
    else:  # numbers of a list, of which each part has a stretch
        order = np.arange(len(every))
        every["col"] = order
    all_failed = np.concatenate(failed)
    all_failed = all_failed[np.argsort(tile_keys(all_failed), kind="stable")]
    tile_index, tiles = _tiles(first.tiles, tile_indices, files)
    image_index, images = np.concatenate(image_indices), None
    if first.images is not None:
        image_index = image_index[order]
        lengths = image_index["length"].astype(np.int64)
        images = KeptImages(first.images, lengths, lambda n: files.of(int(part[n])).picture(int(row[n])))
    n_refused = sum(header.n_refused for header in headers)
    content = PatchContent(
        first.slide, first.settings, every, all_failed, first.n_cells, tiles, images, n_refused=n_refused
    )
    return content, joined_execution(executions, attributes, "patches_from_journal"), (tile_index, image_index)


def _places(lengths: Sequence[int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Part, and row in the part, of each row of tables of these lengths, one after the other: int64 (N,) each."""
    rows = [np.zeros(0, np.int64), *(np.arange(length) for length in lengths)]
    return np.repeat(np.arange(len(lengths)), lengths), np.concatenate(rows)


def _tiles(
    store: TileStore | None, indices: Sequence[npt.NDArray[np.void]], files: _OpenParts
) -> tuple[npt.NDArray[np.void], KeptTiles | None]:
    """Encoded tiles that parts keep, some of them in several: each once, in order of their numbers; their records, too.

    Raises
    ------
    InputError
        Two parts keep different bytes of a tile.
    """
    every = np.concatenate([np.zeros(0, TILE_INDEX_DTYPE), *indices])
    numbers, first, again = np.unique(every["number"], return_index=True, return_inverse=True)
    index = every[first]
    if (index[again] != every).any():
        raise InputError(
            f"{files.paths[0]}: this and the other parts keep different bytes of a tile; extract them again"
        )
    if store is None:
        return index, None
    part, row = (places[first] for places in _places([len(one) for one in indices]))

    def read(number: int) -> bytes:
        place = int(np.searchsorted(numbers, number))
        return files.of(int(part[place])).encoded(int(row[place]))

    return index, KeptTiles(store, numbers, index["length"], read)


class _OpenParts:
    """Files of parts, a few of them open at a time, as there may be more than a process may open.

    Attributes
    ----------
    paths
        All of them.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self._open: OrderedDict[int, PatchFile] = OrderedDict()

    def of(self, part: int) -> PatchFile:
        """The open file of a part, by its place among the paths."""
        if part not in self._open:
            if len(self._open) >= _MOST_OPEN:
                self._open.popitem(last=False)[1].close()
            self._open[part] = PatchFile(self.paths[part], may_be_part=True)
        self._open.move_to_end(part)
        return self._open[part]

    def close(self) -> None:
        """Close all."""
        for file in self._open.values():
            file.close()
        self._open.clear()


def _check_equal(
    output: Path, content: PatchContent, tile_index: npt.NDArray[np.void], image_index: npt.NDArray[np.void]
) -> None:
    """See that a file that is there is what the parts give.

    Raises
    ------
    OutputExistsError
        It is not.
    """
    digest = patch_digest(
        content.slide,
        content.settings,
        None if content.kept is None else content.kept.store,
        content.patches,
        content.failed,
        tile_index,
        None if content.images is None else content.images.store,
        image_index,
    )
    why = "holds other patches"
    try:
        with PatchFile(output) as file:
            # no digest knows whose slide it is
            is_same_origin = dict(file.header.slide.origin) == dict(content.slide.origin)
            if file.header.digest == digest and is_same_origin:
                return
            if file.header.digest == digest:
                why = "says another patient, node or centre"
    except PyramidError as error:
        why = str(error)
    raise OutputExistsError(f"{output}: exists already ({why}); use --overwrite to replace it, or name another with -o")


def _code_of(content: PatchContent) -> ExitCode:
    if len(content.failed) and not len(content.patches):
        return ExitCode.BAD_INPUT
    return ExitCode.TILES_FAILED if len(content.failed) else ExitCode.OK
