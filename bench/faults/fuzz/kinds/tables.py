"""Tables that people write: of slides, labels, origins, folds, splits, cases, places, tiles, concepts, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.faults.fuzz.target import Target
from pyramidai_mpi.base.errors import PyramidError
from pyramidai_mpi.classification.slide_labels import read_labels
from pyramidai_mpi.cli.concept_table import read_concepts
from pyramidai_mpi.models.aggregator_entry import SlideTask
from pyramidai_mpi.patches.folds import read_folds
from pyramidai_mpi.patches.formats.pictures_table import pictures_of_table
from pyramidai_mpi.run.explaining_tiles import read_tile_table
from pyramidai_mpi.run.places import ListedPlaces
from pyramidai_mpi.run.selection import read_slide_table
from pyramidai_mpi.store.patches.origins import Origins
from pyramidai_mpi.truth.slide_table import COLUMNS
from pyramidai_mpi.truth.slide_table import read_slide_table as read_slide_truth
from pyramidai_mpi.truth.truth import NEGATIVE_LIST, read_truth

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

_SLIDES = ["a.tif", "b.tif", "c.tif"]


def _read(data: bytes, folder: Path) -> None:
    table = folder / "table.csv"
    table.write_bytes(data)
    pictures = folder / "pictures"
    (pictures / "tumor").mkdir(parents=True)
    (pictures / "tumor" / "1.png").touch()
    (folder / "truth").mkdir()
    (folder / "truth" / NEGATIVE_LIST).write_bytes(data)
    ways: list[Callable[[], object]] = [
        lambda: read_slide_table(table),
        lambda: read_labels(table).is_tumor("a.tif"),
        lambda: Origins.read(table).of("a.tif"),
        lambda: read_folds(table).apart([folder / "a.h5"], 0),
        lambda: read_concepts(table).of(["a.h5", "a.h5"], [0, 1]),
        lambda: read_tile_table(table, 0),
        lambda: ListedPlaces(table, None).points((1000, 800), ""),
        lambda: pictures_of_table(pictures, table),
        lambda: read_truth(folder / "truth", "a.tif", (100, 100)),
        *(lambda task=task: read_slide_truth(table, task, ("normal", "tumor"), _SLIDES) for task in COLUMNS),
        *(lambda task=task: _read_cases(table, task) for task in SlideTask),
    ]
    refused: PyramidError | None = None
    for way in ways:
        try:
            way()
        except PyramidError as error:
            if refused is None or error.exit_code not in TABLES.refusals or len(str(error)) > len(str(refused)):
                refused = error
    if refused is not None:
        raise refused


def _read_cases(table: Path, task: SlideTask) -> None:
    from pyramidai_mpi.training.slides.cases import read_cases

    read_cases(table, task, _SLIDES, positive=None, splits=table)


def _seeds(_: Path) -> dict[str, bytes]:
    texts = {
        "slides": 'wsi,mpp,output\na.tif,0.25,x\n"b,1.tif",,y.h5\n',
        "labels": "slide,label\na,tumor\nb,normal\nc,1\n",
        "origins": "slide;patient;node;centre\na.tif;p1;1;0\nb.tif;p2;;1\n",
        "folds": "file,fold,patient\na.h5,0,p\nb.h5,1,q\n",
        "splits": "slide\tpatient\tlabel\tsplit\na\tp1\ttumor\ttrain\nb\tp2\tnormal\tvalidation\nc\tp3\tnormal\ttest\n",
        "survival": 'slide,time,event,share\na,1.5,1,0.5\nb,2,0,"0,25"\nc,3e2,yes,1\n',
        "concepts": "file,patch,area,slide\na.h5,0,1.5,s\na.h5,1,,s\n",
        "tiles": "level,col,row\n0,1,2\n1,3,4\n0,5,6\n",
        "corners": "l0_x,l0_y\n100,200\n300,400\n",
        "places": "x,y\n10.5,20\n",
        "wsinfer": "minx,miny,width,height,prob\n0,0,224,224,0.5\n",
        "pictures": "file,label,patient\ntumor/1.png,tumor,p\n",
        "told": "sep=;\nwsi;mpp\na.tif;0,25\n",
        "negative": "a.tif\nb # comment\n",
    }
    seeds = {name: text.encode() for name, text in texts.items()}
    return seeds | {"wide": texts["labels"].encode("utf-16"), "marked": texts["slides"].encode("utf-8-sig")}


def _mutate(data: bytes, chance: Random, blind: Callable[[bytes], bytes]) -> bytes:
    """A cell, row or separator changed."""
    mark = max((b",", b";", b"\t"), key=data.count)
    rows = [row.split(mark) for row in data.split(b"\n")]
    for _ in range(chance.randint(1, 3)):
        row, other = chance.choice(rows), chance.choice(rows)
        place = chance.randrange(len(row))
        kind = chance.randrange(6)
        if kind == 0:
            row[place] = chance.choice(_CELLS)
        elif kind == 1:
            row[place] = chance.choice(other)
        elif kind == 2:
            rows.append(list(row))
        elif kind == 3:
            row[place] = blind(row[place])
        elif kind == 4:
            row.insert(place, chance.choice(_CELLS))
        elif len(row) > 1:
            del row[place]
    joint = chance.choice([mark, mark, mark, b",", b";", b"\t"])
    return b"\n".join(joint.join(row) for row in rows)


_CELLS = (
    b"", b" ", b"nan", b"inf", b"-1", b"1e999", b"1e400", b"9" * 30, b"9" * 5000, b"0x1", b"1_0", "٣".encode(),
    b"\xff\xfe", b"\0",
    b'"', b'""', b'"a', b"a/../b", b"/etc/passwd", b"..", b"\r", b"1,5", b"1.5", b"-0", b"slide", b"file", b"wsi",
    b"split",
    b"patient", b"label", b"level", b"col", b"row", b"x", b"y", b"patch", b"fold", b"tumor", b"train", b"time",
    b"event",
)  # fmt: skip

TABLES = Target(
    _read,
    _seeds,
    _mutate,
    most_bytes=1 << 14,
    words=(
        b"sep=",
        b'"',
        b'""',
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"wsi",
        b"slide",
        b"file",
        b"patch",
        b"fold",
        b"1e999",
        b"nan",
    ),
)
