"""What `TileStore` says of files that have lost their end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.tile_store import DrawnTiles, Source, TileStore


class Drawing:
    """Six tiles of whatever it is asked for."""

    def sources(self, slides):
        return [Source(slide, "mark") for slide in slides]

    def draw_one(self, source):
        pixels = np.full((6, 8, 8, 3), 7, np.uint8)
        return [DrawnTiles(pixels, np.arange(6) % 2 == 0, np.zeros((6, 2), np.float32))]


def test_files_that_lost_their_end_are_named_with_what_to_do(tmp_path) -> None:
    def drawn() -> TileStore:
        store = TileStore(tmp_path, 1)
        store.draw(UnitPool(), Drawing(), [Path("s.tif")])
        return store

    assert (drawn().of([Path("s.tif")], 0, 0).pixels[np.arange(6)] == 7).all()
    (pixels,), (labels,) = tmp_path.glob("*.npy"), tmp_path.glob("*.npz")
    for path in (pixels, labels):
        content = path.read_bytes()
        path.write_bytes(content[:200])
        with pytest.raises(InputError, match=f"{path}: is damaged .*; delete the folder {tmp_path}, for --resume"):
            drawn().of([Path("s.tif")], 0, 0).pixels[np.arange(6)]
        path.write_bytes(content)
