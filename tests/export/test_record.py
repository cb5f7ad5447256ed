"""Beside a result lies what was made of this very result, or it is made anew; what is not ours is left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pyramidai_mpi.base.errors import OutputExistsError, StorageError, UsageError
from pyramidai_mpi.export import formats
from pyramidai_mpi.export.formats import FORMATS, Order, make, orders_beside
from pyramidai_mpi.export.record import record_path
from pyramidai_mpi.store.results.reader import read_digest
from pyramidai_mpi.testing.launch import REPOSITORY
from tests.results import result_of, write_file

ORDERS = {one.name: one for one in FORMATS if not one.needs_slide}  # the others: test_tiles.py
OTHER = np.random.default_rng(4).random((35, 45)) < 0.3


@pytest.fixture
def result(tmp_path):
    """A result."""
    return write_file(tmp_path / "a.h5", result_of())


def contents(order: Order) -> dict:
    files = formats._files_of(order, "slide.tif")
    return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


@pytest.mark.parametrize("name", ORDERS)
def test_what_was_made_of_this_result_is_left_alone_and_of_another_made_anew(result, name):
    (order,) = orders_beside(result, [ORDERS[name]])
    assert make(order, result, resume=True)
    first = contents(order)
    assert first
    assert not make(order, result, resume=True)
    assert contents(order) == first
    write_file(result, result_of(OTHER))
    assert make(order, result, resume=True)
    second = contents(order)
    assert {data for data, _ in second.values()} != {data for data, _ in first.values()}
    assert not make(order, result, resume=True)
    entry = json.loads(record_path(result).read_text())["exports"][order.target.name]
    assert entry["digest"] == read_digest(result)


@pytest.mark.parametrize("name", ORDERS)
def test_what_was_changed_or_put_there_by_others_is_left_alone(result, name):
    (order,) = orders_beside(result, [ORDERS[name]])
    make(order, result)
    path = sorted(contents(order))[0]
    path.write_bytes(path.read_bytes() + b" ")
    changed = contents(order)
    with pytest.raises(OutputExistsError, match="nothing says of which result it is, or it was changed"):
        make(order, result, resume=True)
    assert contents(order) == changed
    assert make(order, result, overwrite=True)
    assert not make(order, result, resume=True)
    record_path(result).unlink()  # as where an older version of this program made it
    with pytest.raises(OutputExistsError, match="nothing says"):
        make(order, result, resume=True)


@pytest.mark.parametrize("name", ORDERS)
def test_without_resume_and_overwrite_nothing_is_replaced(result, name):
    (order,) = orders_beside(result, [ORDERS[name]])
    make(order, result)
    made = contents(order)
    write_file(result, result_of(OTHER))
    with pytest.raises(OutputExistsError, match="exists already"):
        make(order, result)
    assert contents(order) == made


def test_the_way_in_which_it_was_asked_for_counts(result):
    geojson = ORDERS["geojson"]
    target = result.with_suffix(".geojson")
    orders = [Order(geojson, target, variant) for variant in (None, *geojson.variants)]
    orders += [Order(geojson, target, settings=((geojson.settings[0], text),)) for text in ("0", "0,1")]
    for order in [*orders, *orders]:
        assert make(order, result, resume=True)
        assert not make(order, result, resume=True)


@pytest.mark.parametrize("name", ORDERS)
def test_what_a_killed_export_has_left_is_known_as_ours(result, name, monkeypatch):
    (order,) = orders_beside(result, [ORDERS[name]])
    make(order, result)
    write_file(result, result_of(OTHER))

    def killed(*_: object, **__: object) -> None:
        raise StorageError("killed")

    for step in ("before it was written", "after it was written"):
        with monkeypatch.context() as patched:
            if step == "before it was written":
                patched.setattr(formats, "carry_out", killed)
            else:
                patched.setattr("pyramidai_mpi.export.record.ExportRecord.end", killed)
            with pytest.raises(StorageError):
                make(order, result, resume=True)
        assert contents(order)
        assert make(order, result, resume=True)
        assert not make(order, result, resume=True)
        write_file(result, result_of(seed=1) if step == "before it was written" else result_of(OTHER))


KILLED = """
import os, signal, sys
from pathlib import Path
from pyramidai_mpi.export.formats import FORMATS, make, orders_beside
from pyramidai_mpi.store.files import placing
name, result = sys.argv[1], Path(sys.argv[2])
(order,) = orders_beside(result, [one for one in FORMATS if one.name == name])
if name == "deepzoom":
    from pyramidai_mpi.export import replaced_folder
    replaced_folder._place = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
else:
    place = placing.place
    def placed(temporary, path, **how):
        if path.name.endswith(".exports.json"):
            return place(temporary, path, **how)
        os.kill(os.getpid(), signal.SIGKILL)
    placing.place = placed
make(order, result)
"""


@pytest.mark.parametrize("name", ORDERS)
def test_a_killed_export_leaves_nothing_that_the_next_one_does_not_remove(result, name):
    done = subprocess.run([sys.executable, "-c", KILLED, name, result], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == -9, done.stderr
    parts = {path for path in result.parent.rglob(".*") if path.name.endswith(".part")}
    assert parts
    (order,) = orders_beside(result, [ORDERS[name]])
    longer = order.target.with_name(f".{order.target.name}.h5.{next(iter(parts)).name.split('.')[-2]}.part")
    longer.touch()
    assert make(order, result, resume=True)
    left = {path for path in result.parent.rglob(".*") if path.name.endswith(".part")}
    assert left == {longer}


def test_exports_made_at_the_same_time_are_all_noted(result):
    orders = orders_beside(result, [ORDERS[name] for name in ("csv", "geojson", "heatmap", "clam")])
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda order: make(order, result), orders))
    noted = json.loads(record_path(result).read_text())["exports"]
    assert sorted(noted) == sorted(order.target.name for order in orders)
    assert not any(make(order, result, resume=True) for order in orders)


def test_elsewhere_nothing_is_noted(result, tmp_path):
    (tmp_path / "else").mkdir()
    make(Order(ORDERS["csv"], tmp_path / "else" / "a.csv"), result)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.csv", "a.h5", "else"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"format": "x"}', '{"format": "pyramidai-exports/1", "exports": {"a": 1}}']
)
def test_a_file_of_somebody_else_in_the_place_of_the_record_is_left_alone(result, text):
    record_path(result).write_text(text)
    (order,) = orders_beside(result, [ORDERS["csv"]])
    with pytest.raises(OutputExistsError, match="no record of exports"):
        make(order, result)
    assert record_path(result).read_text() == text
    with pytest.raises(UsageError, match="name of the record"):
        make(Order(ORDERS["csv"], record_path(result)), result, overwrite=True)
