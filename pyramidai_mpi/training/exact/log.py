"""What a training says of itself, epoch by epoch: a table that is the same for any number of ranks, and its times."""

from __future__ import annotations

import csv
import io
import time
from typing import TYPE_CHECKING

from pyramidai_mpi.base.errors import StorageError
from pyramidai_mpi.process.host import host_name
from pyramidai_mpi.ranks.collectives import gather_messages, on_rank0

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidai_mpi.ranks.unit_pool import UnitPool

Row = dict[str, "float | int | str"]


class TrainingLog:
    """Rows of an epoch each, and the two files that rank 0 writes of them.

    ``NAME.csv`` follows from the training's state alone, so its bytes are the same for any number of ranks and after
    any stop. ``NAME-times.csv`` says what each epoch took, where; each start of the program adds to it.

    Parameters
    ----------
    folder, name
        Where the files lie, and what they are called.

    Attributes
    ----------
    rows
        One an epoch.
    """

    def __init__(self, folder: Path, name: str = "log") -> None:
        self.path, self.times_path = folder / f"{name}.csv", folder / f"{name}-times.csv"
        self.rows: list[Row] = []
        self._hosts = ""
        self._mark = (0.0, 0.0, 0)

    def begin(self, pool: UnitPool) -> None:
        """Find out who takes part. Collective."""
        hosts = [host_name()]
        if pool.comm is not None:
            hosts = [message.decode() for message in gather_messages(pool.comm, [host_name().encode()])]
        self._hosts = " ".join(sorted(set(hosts)))
        self._mark = (time.monotonic(), pool.busy_s, pool.units)

    def write(self, pool: UnitPool) -> None:
        """Write both files, an epoch having ended. Collective.

        Raises
        ------
        StorageError
            One cannot be written.
        """
        balance = pool.busiest_over_ideal()
        wall, _, units = (
            now - then for now, then in zip((time.monotonic(), pool.busy_s, pool.units), self._mark, strict=True)
        )
        self._mark = (time.monotonic(), pool.busy_s, pool.units)
        times: Row = {
            "epoch": self.rows[-1]["epoch"],
            "seconds": round(wall, 3),
            "ranks": pool.size,
            "hosts": self._hosts,
            "busiest_over_ideal": round(balance, 4),
            "units_of_rank_0": int(units),
        }

        def write_here() -> None:
            try:
                partial = self.path.with_name(f"partial-{self.path.name}")
                partial.write_text(table_of(self.rows), encoding="utf-8")
                partial.replace(self.path)
                is_new = not self.times_path.exists()
                with self.times_path.open("a", encoding="utf-8") as file:
                    file.write("".join(table_of([times]).splitlines(keepends=True)[0 if is_new else 1 :]))
            except OSError as error:
                raise StorageError(f"{error.filename}: cannot be written: {error.strerror or error}") from error

        if pool.comm is None:
            write_here()
        else:
            on_rank0(pool.comm, write_here)


def table_of(rows: list[Row]) -> str:
    """Rows as CSV, in full precision; the first row's names are the columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {name: repr(value) if isinstance(value, float) else value for name, value in row.items()} for row in rows
    )
    return text.getvalue()
