"""Patches of one or many files as a data set, for training in any library."""

from __future__ import annotations

import math
import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from pyramidai_mpi.base.argument_types import check_switches
from pyramidai_mpi.base.counts import counted
from pyramidai_mpi.base.errors import UsageError
from pyramidai_mpi.patches import group_order
from pyramidai_mpi.patches.folds import read_folds
from pyramidai_mpi.patches.open_files import OpenFiles
from pyramidai_mpi.patches.selection import (
    ChosenPatches,
    Kind,
    dealt,
    files_named,
    read_chosen,
    with_labels,
    with_origin,
)

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import numpy.typing as npt

    from pyramidai_mpi.base.types import RgbArray

    Transform: TypeAlias = Callable[[RgbArray], Any]

WINDOW_BYTES = 512 << 20
"""Decoded patches that are shuffled among each other, unless another window is asked for."""
WINDOW_GROUPS = (2, 16)
"""Fewest and most groups of these: what is decoded before the first patch comes has to be waited for."""


class PatchDataset:
    """Patches of one or many files with their labels; `len` and indexing, or shuffled group by group.

    A ``torch.utils.data.DataLoader`` takes it as it is, with any number of workers, forked or spawned; each opens the
    files for itself. Single patches by chance cost six to eleven times what they cost in a group: `shuffled`, and for
    torch `PatchStream`, read whole groups. Threads may use one data set at once.

    An item is ``(pixels, label)``: uint8 (size, size, 3) RGB, and the label's number in `label_names`, -1 where it is
    unknown. With `with_info` a dictionary follows: ``file`` and ``slide`` (texts), ``patch`` (its number in the file),
    ``l0_x`` and ``l0_y`` (its top-left corner in level-0 pixels of the slide).

    Parameters
    ----------
    files
        A file of patches, a folder of them, or several of these.
    labels
        Name or names of labels; None takes patches of all labels.
    unknown
        Whether patches are taken whose label is unknown; None takes them where `labels` is None.
    with_info
        Whether items say where a patch is from.
    transform
        What is made of the pixels of an item; None leaves them. For spawned workers it must be picklable.
    group
        Patches in a group; None takes what the files say.

    Attributes
    ----------
    size, spacing, label_names
        Side of a patch in pixels, µm per pixel of the first file, names of labels by their numbers.

    Raises
    ------
    InputError
        When a file cannot be read, keeps no pixels, or differs from the first in size, spacing (2 %) or labels.
    UsageError
        When there is no such label, or a file is named twice.
    TypeError
        A switch is neither True nor False.

    Examples
    --------
    >>> data = PatchDataset("patches", labels=["normal", "tumor"])  # doctest: +SKIP
    >>> pixels, label = data[0]  # doctest: +SKIP
    """

    def __init__(
        self,
        files: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
        *,
        labels: str | Iterable[str] | None = None,
        unknown: bool | None = None,
        with_info: bool = False,
        transform: Transform | None = None,
        group: int | None = None,
    ) -> None:
        check_switches(with_info=with_info, **({} if unknown is None else {"unknown": unknown}))
        kind, chosen = read_chosen(files_named(files), group)
        self._begin(kind, with_labels(kind, chosen, labels, unknown), transform, with_info=with_info)

    def _begin(
        self, kind: Kind, chosen: Sequence[ChosenPatches], transform: Transform | None, *, with_info: bool
    ) -> None:
        self._kind, self._chosen = kind, list(chosen)
        self.transform, self.with_info = transform, with_info
        self.size, self.spacing, self.label_names = kind.size, kind.spacing, kind.label_names
        self._ends = np.cumsum([len(one.rows) for one in self._chosen], dtype=np.int64)
        self._files = OpenFiles([one.path for one in self._chosen], [one.digest for one in self._chosen])

    def _part(self, chosen: Sequence[ChosenPatches]) -> PatchDataset:
        part = object.__new__(type(self))
        part._begin(self._kind, chosen, self.transform, with_info=self.with_info)
        return part

    def __repr__(self) -> str:
        n_of = {name: int((self.labels == number).sum()) for number, name in enumerate(self.label_names)}
        n_of["unknown"] = len(self) - sum(n_of.values())
        labels = ", ".join(f"{n} {name}" for name, n in n_of.items() if n)
        spacing = "unknown µm/px" if math.isnan(self.spacing) else f"{self.spacing:g} µm/px"
        files = counted(len(self._chosen), "file")
        return f"<{type(self).__name__}: {len(self)} patches of {self.size} px at {spacing} in {files}: {labels}>"

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        """An item.

        Raises
        ------
        IndexError
            When there is none of that number.
        InputError
            When its pixels were damaged, or its file was changed.
        """
        number = operator.index(number)
        if not -len(self) <= number < len(self):
            raise IndexError(f"patch {number} of {len(self)}")
        number %= len(self)
        file = int(np.searchsorted(self._ends, number, side="right"))
        place = number - int(self._ends[file]) + len(self._chosen[file].rows)
        return self._item(file, place, self._files[file].patch(int(self._chosen[file].rows[place])))

    @property
    def labels(self) -> npt.NDArray[np.int16]:
        """Numbers of all labels, int16 (N,), -1 where unknown."""
        return np.concatenate([one.labels for one in self._chosen]) if self._chosen else np.zeros(0, np.int16)

    @property
    def slides(self) -> tuple[str, ...]:
        """Names of the slides, one a file."""
        return tuple(one.slide for one in self._chosen)

    def of(self, **origin: object) -> PatchDataset:
        """Only the files of a patient, node or centre, or of several: ``data.of(patient=[1, 4])``.

        Raises
        ------
        InputError
            When a file does not say its own.
        UsageError
            When no file is of one of them.
        """
        return self._part(with_origin(self._chosen, origin))

    def folds(self, n: int, seed: int = 0) -> list[tuple[PatchDataset, PatchDataset]]:
        """For n folds what to train on and what is held out; no patient is in both.

        Dealt are patients, of about equally many patches a fold, as by `patches folds --by slide`: where nobody has
        said of which patient a slide is, it counts as one.

        Raises
        ------
        UsageError
            When there are fewer patients than folds.
        InputError
            When one slide is said to be of two patients.
        """
        fold_of = dealt(self._chosen, n, seed)
        return [self._apart([fold == held for fold in fold_of]) for held in range(n)]

    def apart(self, table: str | os.PathLike[str], fold: int) -> tuple[PatchDataset, PatchDataset]:
        """What a table of `patches folds` says to train on, and to hold out: the files of all other folds, and of one.

        Raises
        ------
        InputError
            When the table cannot be read, does not name a file, or has no such fold.
        """
        _, members = read_folds(Path(table)).apart([one.path for one in self._chosen], fold)
        return self._apart([one.path in members for one in self._chosen])

    def _apart(self, is_held: Sequence[bool]) -> tuple[PatchDataset, PatchDataset]:
        rest, held = (
            self._part([one for one, is_one in zip(self._chosen, is_held, strict=True) if is_one == wanted])
            for wanted in (False, True)
        )
        return rest, held

    def shuffled(
        self, seed: int = 0, epoch: int = 0, *, rank: int = 0, world: int = 1, window: int | None = None
    ) -> Iterator[tuple[Any, ...]]:
        """Items of a share in an order that follows from seed and epoch, read group by group.

        The groups are shuffled, and dealt to the shares; the patches of `window` groups at a time are shuffled among
        each other. Shares are disjoint, and all of them together are the data set.

        Parameters
        ----------
        seed, epoch
            Whole numbers from 0.
        rank, world
            Which share, from 0, of how many. They may differ in size, as groups do.
        window
            Groups that are decoded and in memory at a time; None takes as many as `WINDOW_BYTES` hold, from 2
            to 16.

        Raises
        ------
        UsageError
            When a number is out of range.
        InputError
            When pixels were damaged.
        """
        if window is not None and window < 1:
            raise UsageError(f"window {window}: expected a number of groups above 0")
        return self._shuffled(self._share(seed, epoch, rank, world), (seed, epoch, rank, world), window)

    def share_size(self, seed: int = 0, epoch: int = 0, *, rank: int = 0, world: int = 1) -> int:
        """How many items a share has, see `shuffled`.

        Raises
        ------
        UsageError
            When a number is out of range.
        """
        share = self._share(seed, epoch, rank, world)
        return int((share["stop"] - share["start"]).sum())

    def _share(self, seed: int, epoch: int, rank: int, world: int) -> npt.NDArray[np.void]:
        if min(seed, epoch) < 0 or not 0 <= rank < world:
            raise UsageError(f"seed {seed}, epoch {epoch}, share {rank} of {world}: expected numbers from 0")
        groups = group_order.groups_of([one.rows for one in self._chosen], [one.group for one in self._chosen])
        return groups[group_order.share_of(len(groups), seed, epoch, rank, world)]

    def _shuffled(
        self, share: npt.NDArray[np.void], key: tuple[int, ...], window: int | None
    ) -> Iterator[tuple[Any, ...]]:
        if window is None:
            group_bytes = 3 * self.size**2 * int((share["stop"] - share["start"]).max(initial=1))
            window = min(max(WINDOW_GROUPS[0], WINDOW_BYTES // group_bytes), WINDOW_GROUPS[1])
        room = np.empty((0, self.size, self.size, 3), np.uint8)
        for groups, order in group_order.windows_of(share, window, key):
            if len(order) > len(room):
                room = np.empty((len(order), self.size, self.size, 3), np.uint8)
            where, first = np.empty((len(order), 2), np.int64), 0
            for file, start, stop in groups.tolist():
                last = first + stop - start
                self._files[file].take(self._chosen[file].rows[start:stop], room[first:last])
                where[first:last, 0], where[first:last, 1] = file, np.arange(start, stop)
                first = last
            for place in order.tolist():
                file, number = where[place].tolist()
                yield self._item(file, number, room[place].copy())

    def _item(self, file: int, place: int, pixels: RgbArray) -> tuple[Any, ...]:
        chosen = self._chosen[file]
        label = int(chosen.labels[place])
        seen = pixels if self.transform is None else self.transform(pixels)
        if not self.with_info:
            return seen, label
        number = int(chosen.rows[place])
        (record,) = self._files[file].places(number, number + 1)
        where = {"l0_x": int(record["l0_x"]), "l0_y": int(record["l0_y"])}
        return seen, label, {"file": str(chosen.path), "slide": chosen.slide, "patch": number, **where}
