"""Which image comes when, when training ends, and which slides go together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path

import pytest

pytest.importorskip("torch")

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.run.slide_plane import PlaneFacts
from pyramidai_mpi.training.whole.field import Field
from pyramidai_mpi.training.whole.fitting import DICE, WholeSettings, best_epoch, check_block, is_over, order_of
from pyramidai_mpi.training.whole.keeping import ImageOrder, KeptSlide
from pyramidai_mpi.training.whole.training import WholeRequest, common_spacing, split_slides
from tests.training.whole.whole_example import train

SETTINGS = WholeSettings(6, 7, 2, None, (64, 64), 1e-3, 1)


@dataclass
class Logged:
    """Of a training, its log: the Dice of each epoch."""

    dice: list[float]
    rows: list[dict[str, float]] = field(init=False)

    def __post_init__(self) -> None:
        self.rows = [{DICE: one} for one in self.dice]
        self.log, self.epoch = self, len(self.dice)


def test_each_image_comes_once_before_any_comes_again() -> None:
    order = order_of(3, SETTINGS, 0)
    assert len(order) == 7
    assert sorted(order[:3]) == sorted(order[3:6]) == [0, 1, 2]
    assert order == order_of(3, SETTINGS, 0)
    assert len({tuple(order_of(3, SETTINGS, epoch)) for epoch in range(20)}) > 5


@pytest.mark.parametrize(
    ("dice", "best", "over"),
    [
        ([], 0, False),
        ([0.5], 1, False),
        ([0.5, 0.4], 1, False),
        ([0.5, 0.4, 0.5], 1, True),
        ([0.5, 0.4, 0.6, 0.5], 3, False),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], 6, True),
    ],
)
def test_training_ends_when_no_epoch_was_better_for_a_while(dice, best, over) -> None:
    training = Logged(dice)
    assert best_epoch(training) == best
    assert is_over(training, SETTINGS) is over
    assert is_over(training, replace(SETTINGS, patience=0)) is (len(dice) == 6)


def test_blocks_are_whole_strides() -> None:
    check_block((96, 64), Field(32, 128))
    with pytest.raises(UsageError, match=r"--block 100x64: sides must be multiples .*, 32; give 96x64"):
        check_block((100, 64), Field(32, 128))


def test_what_is_not_finite_is_said_with_image_and_epoch(tmp_path) -> None:
    with pytest.raises(InputError, match=r"^image [12], epoch 1, step 2: block \d: .* is not a finite number"):
        train(UnitPool(), tmp_path, learning_rate=1e30)
    (tmp_path / "last").mkdir()
    with pytest.raises(InputError, match=r"^after epoch 1: image 3: what the network says of it are no finite numbers"):
        train(UnitPool(), tmp_path / "last", before_step=broken_from(30))


def broken_from(block: int):
    """Something that gives a network NaN from some block on."""
    seen = count(1)
    return lambda _module, given: (given[0] * float("nan"),) if next(seen) >= block else None


def slide(um_px: float | None, name: str = "a.svs") -> KeptSlide:
    facts = PlaneFacts(Path(name), "", (9, 9), 1.0, um_px, (9, 9), (0, 0))
    return KeptSlide(facts, "", Path("d"), Path("m"), is_decoded=True, is_labelled=True)


def test_slides_have_one_size_of_pixels() -> None:
    assert common_spacing([slide(0.25), slide(0.252)]) == 0.25
    assert common_spacing([slide(None), slide(None)]) is None
    with pytest.raises(InputError, match=r"b.svs: its pixels are 0.5 µm, those of a.svs 0.25 µm; .* --mpp"):
        common_spacing([slide(0.25), slide(0.5, "b.svs")])
    with pytest.raises(InputError, match=r"b.svs: does not say .* --slide-mpp"):
        common_spacing([slide(0.25), slide(None, "b.svs")])


def test_slides_are_held_out_by_the_seed_and_not_by_their_order() -> None:
    names = tuple(Path(f"{n}.tif") for n in range(10))
    request = WholeRequest(names, 0.2, ImageOrder(None), "unet", SETTINGS, None, "")
    learnt, held_out = split_slides(request)
    assert (len(learnt), len(held_out)) == (8, 2)
    assert {*learnt, *held_out} == set(names)
    assert split_slides(replace(request, slides=names[::-1])) == (learnt, held_out)
    others = [split_slides(replace(request, settings=replace(SETTINGS, seed=seed)))[1] for seed in range(8)]
    assert len(set(map(tuple, others))) > 3
    with pytest.raises(UsageError, match="1 slide: one is held out"):
        split_slides(replace(request, slides=names[:1]))
