"""What has been done of a slide whose tiles are explained, put together at its owner: what follows, or its tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.analyses.explain import MAPS, MASKS, UnitRule, unpack_map
from pyramidai_mpi.base.errors import InternalError
from pyramidai_mpi.base.types import FAILED_DTYPE
from pyramidai_mpi.run.explaining_levels import SlideState
from pyramidai_mpi.store.explanations.contents import ExplainedTiles

if TYPE_CHECKING:
    import numpy.typing as npt

    from pyramidai_mpi.analyses.base import OpenSlide
    from pyramidai_mpi.analyses.explain import Explain
    from pyramidai_mpi.run.pool.owner import Collected


class Gathered:
    """What has been done of one slide, at its owner."""

    def __init__(self, explain: Explain, collected: Collected) -> None:
        rule = collected.beginning.rule
        assert isinstance(rule, UnitRule)
        self._explain, self._collected, self._rule = explain, collected, rule
        self.slide: OpenSlide = collected.beginning.slide
        records = collected.records.rows
        lengths = records["kept_bytes"].astype(np.int64)
        starts = np.cumsum(lengths) - lengths
        order = np.lexsort((records["row"], records["col"], records["level"]))
        self._records, self._places = records[order], np.stack([starts, lengths], axis=1)[order]
        self._n_tiles = len(rule.tiles)

    @property
    def _maps(self) -> npt.NDArray[np.intp]:
        return np.flatnonzero(self._records["level"] == MAPS)

    def _read(self, place: int) -> bytes:
        start, length = self._places[place].tolist()
        if not length:
            return b""
        assert self._collected.kept is not None
        return self._collected.kept.read(start, length)

    def _last_maps(self) -> npt.NDArray[np.int64]:
        """Where the last map of each tile stands, int64 (N,), -1 for none yet."""
        last = np.full(self._n_tiles, -1, np.int64)
        last[self._records["col"][self._maps]] = self._maps  # in the order of rounds
        return last

    def next_state(self) -> SlideState | None:
        """What the next pool has to know; None when all is done."""
        last = self._last_maps()
        there = self._records[np.maximum(last, 0)] if len(self._records) else self._records
        waits = (last < 0) if not len(there) else (last < 0) | self._explain.rounds.goes_on(there)
        if not waits.any():
            return None
        rounds = np.where(last < 0, 0, there["row"].astype(np.int64) + 1) + waits
        scores: list[npt.NDArray[np.float32]] = [np.empty(0, np.float32)] * self._n_tiles
        masks = np.flatnonzero(self._records["level"] == MASKS)
        for number, of_tile in zip(*_split(self._records["col"][masks], masks), strict=True):
            if waits[number]:
                scores[number] = np.concatenate([np.frombuffer(self._read(int(place)), "<f4") for place in of_tile])
        stain = self.slide.stain
        return SlideState(rounds, tuple(scores), "" if stain is None else stain.to_json())

    def tiles(self) -> ExplainedTiles:
        """The tables of the slide's file."""
        explain, index, grid, last = self._explain, self._rule.tiles, self.slide.pyramid.grid, self._last_maps()
        if (last < 0).any():
            raise InternalError(f"{self.slide.source.path}: not all of its {self._n_tiles} tiles have a map")
        n, level = self._n_tiles, explain.level
        maps = np.empty((n, *explain.map_shape), np.float32)
        curves = np.empty((4, n, explain.n_points), np.float32)
        for row, place in enumerate(last):
            maps[row], lines = unpack_map(self._read(int(place)), explain)
            for curve, line in zip(curves, lines, strict=True):
                curve[row] = line
        deletion, insertion, random_deletion, random_insertion = curves
        records = self._records[last]
        return ExplainedTiles(
            index=index.astype(np.uint32),
            l0_coords=grid.l0_corners(level, index),
            l0_side=np.full(n, round(grid.window * grid.downsample(level)), np.int64),
            probability=records["probability"].reshape(n, explain.n_classes),
            maps=maps,
            repeatability=records["repeatability"],
            deletion=deletion,
            insertion=insertion,
            random_deletion=random_deletion,
            random_insertion=random_insertion,
        )

    def failed(self) -> npt.NDArray[np.void]:
        """`FAILED_DTYPE` records of the tiles that have no map, row-major."""
        units = self._collected.failed.rows
        units = units[units["level"] == MAPS]
        failed = np.zeros(len(units), FAILED_DTYPE)
        failed["level"], failed["reason"] = self._explain.level, units["reason"]
        failed["col"], failed["row"] = self._rule.tiles[units["col"]].T
        return np.sort(failed, order=["level", "row", "col"])

    def masks_in_words(self) -> dict[str, int]:
        """How many masks the maps are made of."""
        if not self._explain.rounds.n_masks:
            return {}
        used = [self._explain.rounds.masks_in(int(row)) for row in self._records["row"][self._last_maps()]]
        return {"masks": sum(used), "least_masks": min(used, default=0), "most_masks": max(used, default=0)}


def _split(keys: npt.NDArray[np.integer], values: npt.NDArray[np.intp]) -> tuple[list[int], list[npt.NDArray[np.intp]]]:
    """Values by their keys, which ascend."""
    found, first = np.unique(keys, return_index=True)
    return found.tolist(), np.split(values, first[1:]) if len(found) else []
