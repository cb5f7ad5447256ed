"""What earlier starts have left is given back slide by slide, wherever it lies, and removed when nobody needs it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from pyramidai_mpi.base.errors import InputError, OutputExistsError
from pyramidai_mpi.base.settings import RunSettings
from pyramidai_mpi.base.types import tile_keys
from pyramidai_mpi.run import resume
from pyramidai_mpi.run.facts import Fact, Kind
from pyramidai_mpi.run.resume import begin_slide, read_journals
from pyramidai_mpi.store.journal.folder import JournalFolder
from pyramidai_mpi.store.journal.writer import JournalWriter
from pyramidai_mpi.testing.tile_colours import RECORD, TileColours
from tests.trees import rule_of

if TYPE_CHECKING:
    from pyramidai_mpi.run.pool.owner import Beginning
    from pyramidai_mpi.run.resume import Journals

pytestmark = pytest.mark.mpi

LEVELS = 3
RULE = rule_of(np.random.default_rng(1).random((24, 30)) < 0.4)
NO_TILE = np.empty(0, [("level", "u1"), ("col", "<u4"), ("row", "<u4"), ("reason", "S200")])


SLIDE = SimpleNamespace(source=SimpleNamespace(path=Path("a.tif")))
"""Of an open slide, what is said of it."""


class Lock:
    """Nobody else is there."""

    def check(self) -> None:
        """It is held."""

    def release(self) -> None:
        """Give nothing back."""


def settings(folder: Path, names: str, **options: bool) -> list[RunSettings]:
    return [RunSettings.of(folder / f"{n}.tif", folder, folder / f"{n}.h5", **options) for n in names]


def journals_of(each: list[RunSettings]) -> Journals:
    from mpi4py import MPI

    return read_journals(MPI.COMM_SELF, each, TileColours(LEVELS), in_own_folder=len(each) == 1)


def begin(one: RunSettings, journals: Journals, fact: str = "x") -> Beginning:
    facts = (Fact("quickhash", "slide", one.slide.path.name + fact, Kind.SLIDE),)
    return begin_slide(one, SLIDE, RULE, TileColours(LEVELS), facts, journals, Lock())  # type: ignore[arg-type]


def done(tiles: np.ndarray) -> np.ndarray:
    records = np.zeros(len(tiles), RECORD)
    for name in ("level", "col", "row"):
        records[name] = tiles[name]
    records["tissue"] = 0.5
    return records


def journalled(journals: Journals, rank: int, *batches: tuple[int, np.ndarray]) -> None:
    writer = JournalWriter(journals.of_rank(rank), journals.record_format)
    for tag, tiles in batches:
        writer.append(tag, done(tiles), NO_TILE)
    writer.close()


def restored(beginning: Beginning) -> np.ndarray:
    return np.concatenate([np.empty(0, RECORD), *(batch.records for batch in beginning.restored)])


def test_several_slides_share_the_ranks_files_and_each_gets_its_own_back(tmp_path):
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    first, second = (begin(one, journals) for one in each)
    roots = RULE.roots()
    assert first.tag != second.tag
    assert first.first.tobytes() == roots.tobytes()
    journalled(journals, 0, (first.tag, roots[:2]), (second.tag, roots[:1]))
    journalled(journals, 1, (second.tag, roots[1:4]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.h5.journal", "b.h5.journal", "pyramidai.journal"]
    assert len(journals.shared.files()) == 2  # files grow with ranks, not with slides
    journals.close()

    again = settings(tmp_path, "ab", resume=True)
    journals = journals_of(again)
    for one, kept in zip(again, (roots[:2], roots[:4]), strict=True):
        going_on = begin(one, journals)
        assert tile_keys(restored(going_on)).tolist() == tile_keys(kept).tolist()
        left = np.concatenate([RULE.children(kept), roots[len(kept) :]])
        assert sorted(tile_keys(going_on.first)) == sorted(tile_keys(left))


def test_a_slide_of_several_may_be_gone_on_with_alone_and_the_other_way_round(tmp_path):
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    beginning, _ = (begin(one, journals) for one in each)
    journalled(journals, 0, (beginning.tag, RULE.roots()[:3]))
    alone = settings(tmp_path, "a", resume=True)
    journals = journals_of(alone)
    assert journals.home == JournalFolder.of(alone[0].output.path)
    assert len(restored(begin(alone[0], journals))) == 3
    journalled(journals, 0, (beginning.tag, RULE.roots()[3:5]))
    several = settings(tmp_path, "ab", resume=True)
    assert len(restored(begin(several[0], journals_of(several)))) == 5


def test_begun_afresh_nothing_of_before_comes_back(tmp_path):
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    beginning = begin(each[0], journals)
    journalled(journals, 0, (beginning.tag, RULE.roots()[:3]))
    afresh = settings(tmp_path, "ab", overwrite=True)
    assert not len(restored(begin(afresh[0], journals_of(afresh))))


def test_a_journal_of_another_run_is_refused(tmp_path):
    each = settings(tmp_path, "ab", resume=True)
    begin(each[0], journals_of(each))
    with pytest.raises(InputError, match="slide"):
        begin(each[0], journals_of(each), "another")


def test_records_that_cannot_be_are_refused(tmp_path):
    each = settings(tmp_path, "a")
    journals = journals_of(each)
    beginning = begin(each[0], journals)
    wrong = done(RULE.roots()[:1])
    wrong["tissue"] = 7
    writer = JournalWriter(journals.of_rank(0), journals.record_format)
    writer.append(beginning.tag, wrong, NO_TILE)
    writer.close()
    again = settings(tmp_path, "a", resume=True)
    with pytest.raises(InputError, match="start afresh"):
        begin(again[0], journals_of(again))


def test_shared_files_are_removed_with_the_last_slide_that_needs_them(tmp_path):
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    beginnings = [begin(one, journals) for one in each]
    journalled(journals, 0, *[(beginning.tag, RULE.roots()[:1]) for beginning in beginnings])
    beginnings[0].output.remove_journal()
    journals.remove_shared()
    assert len(journals.shared.files()) == 1
    beginnings[1].output.remove_journal()
    journals.remove_shared()
    assert not list(tmp_path.iterdir())


def test_the_files_of_a_run_that_is_between_two_slides_stay_whoever_tidies_up(tmp_path):
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    beginning = begin(each[0], journals)
    journalled(journals, 0, (beginning.tag, RULE.roots()[:1]))
    beginning.output.remove_journal()
    others = [
        journals_of([RunSettings.of(one.slide.path, tmp_path, tmp_path / f"{name}.h5", resume=True) for name in "cd"])
        for one in each
    ]
    for other in others:
        other.remove_shared()
    JournalFolder.shared_beside(each[0].output.path).remove_files()
    assert journals.shared.files() == [journals.of_rank(0).name]
    later = begin(each[1], journals)
    for other in others:
        other.remove_shared()
    later.output.remove_journal()
    journals.remove_shared()
    assert not list(tmp_path.iterdir())


def test_files_that_another_run_removes_while_they_are_looked_through_are_no_matter(tmp_path, monkeypatch):
    each = settings(tmp_path, "ab", resume=True)
    journals = journals_of(each)
    beginnings = [begin(one, journals) for one in each]
    journalled(journals, 0, *[(beginning.tag, RULE.roots()[:1]) for beginning in beginnings])
    for beginning in beginnings:
        beginning.output.remove_journal()
    real = resume._scan

    def scan(*arguments):
        journals.remove_shared()
        return real(*arguments)

    monkeypatch.setattr(resume, "_scan", scan)
    again = journals_of(each)
    assert [path.exists() for path in again.files] == [False]
    assert not len(again.frames)
    journalled(again, 0, (1, RULE.roots()[:1]))
    assert len(again.shared.files()) == 1
    again.close()


def test_a_folder_that_another_run_takes_away_at_its_end_is_made_again(tmp_path, monkeypatch):
    real, taken_away = JournalFolder.next_start, []

    def next_start(self):
        start = real(self)
        if not taken_away:
            taken_away.append(self.path.rmdir())
        return start

    monkeypatch.setattr(JournalFolder, "next_start", next_start)
    journals = journals_of(settings(tmp_path, "ab"))
    assert taken_away
    assert journals.shared.exists
    journals.close()


def begin_copies(each: list[RunSettings], journals: Journals) -> list[Beginning]:
    """Begin slides that are copies of one."""
    facts = (Fact("quickhash", "slide", "the same", Kind.SLIDE),)
    return [
        begin_slide(one, SLIDE, RULE, TileColours(LEVELS), facts, journals, Lock())  # type: ignore[arg-type]
        for one in each
    ]


def test_two_copies_of_a_slide_have_a_journal_each(tmp_path):
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    first, second = begin_copies(each, journals)
    roots = RULE.roots()
    journalled(journals, 0, (first.tag, roots[:5]), (second.tag, roots[5:7]))
    journals.close()
    again = settings(tmp_path, "ab", resume=True)
    found = [tile_keys(restored(one)).tolist() for one in begin_copies(again, journals_of(again))]
    assert found == [tile_keys(roots[:5]).tolist(), tile_keys(roots[5:7]).tolist()]


def test_a_journal_whose_manifest_has_no_word_of_its_own_is_gone_on_with(tmp_path):
    """As they were before two copies of a slide were told apart."""
    each = settings(tmp_path, "ab")
    journals = journals_of(each)
    begin_copies(each, journals)
    folder = JournalFolder.of(each[0].output.path)
    manifest = folder.manifest()
    document = json.loads(manifest.to_bytes().splitlines()[0])
    del document["word"]
    line = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
    (folder.path / "manifest.json").write_bytes(line + b"\n" + hashlib.sha256(line).hexdigest().encode() + b"\n")
    journalled(journals, 0, (int(manifest.run_hash[:16], 16), RULE.roots()[:4]))
    again = settings(tmp_path, "ab", resume=True)
    journals = journals_of(again)
    beginning = begin_copies(again[:1], journals)[0]
    assert len(restored(beginning)) == 4
    journalled(journals, 0, (beginning.tag, RULE.roots()[4:6]))
    assert len(restored(begin_copies(again[:1], journals_of(again))[0])) == 6


def test_whoever_has_lost_the_lock_neither_writes_a_manifest_nor_removes_a_journal(tmp_path):
    class Lost(Lock):
        def check(self) -> None:
            raise OutputExistsError("another run has taken the place of this one")

    each = settings(tmp_path, "a")
    journals = journals_of(each)
    held = begin(each[0], journals)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for options in ({"resume": True}, {"overwrite": True}):
        (one,) = settings(tmp_path, "a", **options)
        with pytest.raises(OutputExistsError):
            begin_slide(one, SLIDE, RULE, TileColours(LEVELS), (), journals, Lost())  # type: ignore[arg-type]
    replace(held.output, lock=Lost()).remove_journal()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_features_come_back_frame_by_frame(tmp_path):
    """Only one frame's features are held at a time, however many the journal has."""
    import tracemalloc

    from pyramidai_mpi.analyses.base import FAILED_DTYPE
    from pyramidai_mpi.store.journal.format import RecordFormat
    from pyramidai_mpi.store.journal.reader import SlideFrames, scan_file

    width, n_frames = 4096, 200
    record_format = RecordFormat(RECORD, FAILED_DTYPE, (width,))
    path = tmp_path / "0001-00000000-00000.tiles"
    writer = JournalWriter(path, record_format)
    tiles = np.zeros(8, RECORD)
    for number in range(n_frames):
        tiles["col"], tiles["row"] = number, np.arange(8)
        writer.append(7, tiles, NO_TILE, np.full((8, width), number, np.float32))
    writer.close()
    tracemalloc.start()
    frames = SlideFrames([path], scan_file(path, 0, record_format), record_format)
    kept = np.ones(len(frames.records()), bool)
    for number, (_, _, features, _) in enumerate(frames.batches(kept)):
        assert (features == number).all()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size > n_frames * 8 * width * 4
    assert peak < path.stat().st_size / 10
