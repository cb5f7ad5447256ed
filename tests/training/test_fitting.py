"""Fitting a tile network on the exact step: against plain torch loops, closed forms, and what options say."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from pyramidai_mpi.base.errors import InputError, UsageError
from pyramidai_mpi.ranks.unit_pool import PoolStoppedError, UnitPool
from pyramidai_mpi.training.augment import NO_CHANGE, AugmentSettings
from pyramidai_mpi.training.fit_settings import FitSettings, parse_augment, parse_class_weights, parse_epochs
from pyramidai_mpi.training.fitting import (
    FitPlace,
    accuracy,
    area_under_curve,
    fit,
    log_loss,
    n_steps,
    score,
    units_of_step,
    usable_device,
)
from pyramidai_mpi.training.losses import class_weights, summed_loss
from pyramidai_mpi.training.networks.tile_network import TileNetwork
from pyramidai_mpi.training.schedules import rate_at
from pyramidai_mpi.training.tile_store import LabelledTiles
from pyramidai_mpi.training.torch_setup import use_one_thread


class Tiny(TileNetwork):
    """Two convolutions with batch norm, in the precision of its weights."""

    n_features = 6

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4))
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2), nn.BatchNorm2d(6))
        self.head = nn.Linear(6, 1)

    def features(self, tiles):
        maps = tiles.permute(0, 3, 1, 2).to(self.head.weight.dtype) / 255
        return torch.relu(self.second(torch.relu(self.first(maps)))).mean((2, 3))

    def logit(self, features):
        return self.head(features)

    def stages(self):
        return [[self.first], [self.second]]


def tiny(dtype=torch.float32) -> Tiny:
    torch.manual_seed(0)
    return Tiny().to(dtype)


def tiles_of(n=22, side=16, seed=3) -> LabelledTiles:
    """Positive ones are darker."""
    rng = np.random.default_rng(seed)
    positive = np.arange(n) % 2 == 0
    pixels = rng.integers(0, 140, (n, side, side, 3)) + np.where(positive, 0, 110)[:, None, None, None]
    return LabelledTiles(pixels.astype(np.uint8), positive)


TILES = tiles_of()
USUAL = {"epochs": 3, "batch_size": 9, "micro_batch": 4, "learning_rate": 0.01, "augment": NO_CHANGE}


def fitted(tmp_path, network=None, validation=TILES, train=TILES, name="level0", pool=None, **choices):
    """Result, and the network."""
    use_one_thread()
    network = network or tiny()
    pool = pool or UnitPool()
    return fit(
        network, train, validation, FitSettings(**USUAL | choices), pool, FitPlace(tmp_path, name, 0, {})
    ), network


CHOICES = [
    {"optimizer": "adam", "decay": 0.01, "loss": "focal", "focal_gamma": 1.5},
    {"optimizer": "adamw", "decay": 0.1, "schedule": "cosine", "warm_up": 1.0, "label_smoothing": 0.1},
    {"optimizer": "sgd", "nesterov": True, "momentum": 0.8, "decay": 0.01, "class_weights": (1.0, 3.0)},
    {"optimizer": "sgd", "momentum": 0.0, "schedule": "steps", "rate_decay": 0.1},
]


@pytest.mark.parametrize("choices", CHOICES, ids=lambda choices: choices["optimizer"])
def test_weights_are_those_of_a_plain_loop_in_double_precision(tmp_path, choices) -> None:
    settings = FitSettings(**USUAL | choices)
    plain, tiles = tiny(torch.float64).train(), torch.from_numpy(TILES.pixels)
    labels = torch.from_numpy(TILES.positive)
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    more = {"momentum": settings.momentum, "nesterov": settings.nesterov} if settings.optimizer == "sgd" else {}
    optimizer = kinds[settings.optimizer](plain.parameters(), lr=1.0, weight_decay=settings.decay, **more)
    weights = settings.class_weights or (1.0, 1.0)
    for epoch in range(3):
        for step in range(3):
            optimizer.param_groups[0]["lr"] = rate_at(settings, epoch, step, 3)
            units = units_of_step(22, settings, 0, epoch, step)
            total = sum(summed_loss(plain.odds(tiles[rows])[:, 0], labels[rows], settings, weights)[0]
                        for rows in map(torch.from_numpy, units))  # fmt: skip
            weight = sum(weights[int(label)] for rows in units for label in TILES.positive[rows])
            optimizer.zero_grad()
            (total / weight).backward()
            optimizer.step()
    _, network = fitted(tmp_path, tiny(torch.float64), keep="last", **choices)
    ours, theirs = (nn.utils.parameters_to_vector(one.parameters()) for one in (network, plain))
    # Adam divides by gradients that may be nearly 0, so the rounding to 2**-40 shows more
    most = 1e-9 if settings.optimizer == "sgd" else 1e-6
    assert torch.linalg.norm(ours - theirs) <= most * torch.linalg.norm(theirs)


def test_units_of_an_epoch_are_all_tiles_once_in_even_micro_batches() -> None:
    settings = FitSettings(**USUAL)
    for n in (9, 19, 22, 37):
        steps = n_steps(n, 9)
        units = [unit for step in range(steps) for unit in units_of_step(n, settings, 0, 5, step)]
        left_out = int(n % 9 == 1)  # a single tile, of which batch norm can make nothing
        assert len(np.unique(np.concatenate(units))) == sum(map(len, units)) == n - left_out
        assert {len(unit) for unit in units} <= {2, 3, 4}
    orders = [np.concatenate(units_of_step(22, settings, *place)) for place in ((0, 0, 0), (0, 1, 0), (1, 0, 0))]
    assert len({order.tobytes() for order in orders}) == 3


def test_losses_are_torchs_of_two_classes() -> None:
    logits, positive = torch.linspace(-3, 4, 11, dtype=torch.float64), torch.arange(11) % 3 == 0
    two = torch.stack([torch.zeros_like(logits), logits], 1)
    settings = FitSettings(label_smoothing=0.2)
    found, weight = summed_loss(logits, positive, settings, (1.0, 1.0))
    expected = nn.functional.cross_entropy(two, positive.long(), label_smoothing=0.2, reduction="sum")
    torch.testing.assert_close(found, expected)
    assert weight == 11
    found, weight = summed_loss(logits, positive, FitSettings(), (0.5, 3.0))
    of_classes = torch.tensor([0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(found / weight, nn.functional.cross_entropy(two, positive.long(), weight=of_classes))
    found, _ = summed_loss(logits, positive, FitSettings(loss="focal", focal_gamma=1.7), (1.0, 1.0))
    right = [1 / (1 + math.exp(-z if is_one else z)) for z, is_one in zip(logits.tolist(), positive, strict=True)]
    assert float(found) == pytest.approx(sum(-((1 - p) ** 1.7) * math.log(p) for p in right), rel=1e-12)


def test_balanced_weights_give_both_classes_the_same_say() -> None:
    negative, positive = class_weights(FitSettings(class_weights="balanced"), 30, 10)
    assert 30 * negative == pytest.approx(10 * positive)
    assert 30 * negative + 10 * positive == pytest.approx(40)


def test_schedules_are_their_closed_forms() -> None:
    def rates(**choices):
        settings = FitSettings(epochs=8, learning_rate=0.1, **choices)
        return np.array([rate_at(settings, epoch, step, 5) for epoch in range(8) for step in range(5)])

    done = np.arange(40)
    np.testing.assert_allclose(rates(), 0.1)
    np.testing.assert_allclose(rates(schedule="cosine"), 0.05 * (1 + np.cos(np.pi * done / 40)))
    warm = rates(schedule="cosine", warm_up=2)
    np.testing.assert_allclose(warm[:10], 0.01 * (done[:10] + 1))
    np.testing.assert_allclose(warm[10:], 0.05 * (1 + np.cos(np.pi * (done[10:] - 10) / 30)))
    np.testing.assert_allclose(rates(schedule="steps"), np.repeat([0.1, 0.01, 0.001], [20, 10, 10]))
    np.testing.assert_allclose(rates(schedule="steps", drop_at=(3,)), np.repeat([0.1, 0.01], [15, 25]))
    np.testing.assert_allclose(rates(rate_decay=0.5), 0.1 / (1 + 0.5 * done))


def test_frozen_stages_keep_weights_and_averages_and_the_rest_learns(tmp_path) -> None:
    before = {name: value.clone() for name, value in tiny().state_dict().items()}
    _, network = fitted(tmp_path, freeze=1)
    for name, value in network.state_dict().items():
        if not name.endswith("tracked"):
            assert torch.equal(value, before[name]) == name.startswith("first."), name
    with pytest.raises(UsageError, match="--freeze 3"):
        fitted(tmp_path, name="other", freeze=3)


def test_it_stops_when_the_validation_loss_has_not_fallen_for_a_while(tmp_path) -> None:
    wrong = LabelledTiles(TILES.pixels, ~TILES.positive)  # what is learnt makes it worse on these
    done, _ = fitted(tmp_path, validation=wrong, epochs=9, learning_rate=0.05, patience=2)
    losses = [row["validation_loss"] for row in done.rows]
    assert len(losses) < 9
    assert np.argmin(losses) == len(losses) - 3
    later, _ = fitted(tmp_path, validation=wrong, epochs=9, learning_rate=0.05, patience=2, patience_from=7)
    assert len(later.rows) >= 7
    assert later.rows[: len(losses)] == done.rows, "more patience goes on from where it stopped"


@pytest.mark.parametrize("keep", ["best", "last"])
def test_best_and_last_are_kept(tmp_path, keep) -> None:
    done, network = fitted(tmp_path, epochs=5, learning_rate=0.2, keep=keep)
    rights = [row["validation_accuracy"] for row in done.rows]
    assert done.best_epoch == max(epoch for epoch in range(5) if rights[epoch] == max(rights))
    assert done.kept_epoch == (done.best_epoch if keep == "best" else 4)
    assert accuracy(score(network, TILES, UnitPool()), TILES.positive) == rights[done.kept_epoch]
    other = tiny()
    other.load_state_dict(torch.load(tmp_path / f"level0.{'last' if keep == 'best' else 'best'}.pt"))
    other.eval()
    expected = rights[4 if keep == "best" else done.best_epoch]
    assert accuracy(score(other, TILES, UnitPool()), TILES.positive) == expected


def test_what_decides_the_weights_decides_them_and_what_does_not_does_not(tmp_path) -> None:
    usual = fitted(tmp_path, name="usual")[0].digest
    assert fitted(tmp_path, name="same", patience=50)[0].digest == usual
    others = [{"seed": 1}, {"micro_batch": 9}, {"augment": AugmentSettings()}, {"augment": parse_augment("stain=0.1")},
              {"augment": parse_augment("shift=0.2")}, {"label_smoothing": 0.01}, {"warm_up": 1},
              {"precision": "bfloat16"}]  # fmt: skip
    digests = {fitted(tmp_path, name=f"other{number}", **more)[0].digest for number, more in enumerate(others)}
    assert len(digests | {usual}) == len(others) + 1


def test_a_stop_while_tiles_are_scored_loses_nothing(tmp_path) -> None:
    whole, _ = fitted(tmp_path, name="whole")
    steps = sum(len(units_of_step(22, FitSettings(**USUAL), 0, 0, step)) for step in range(3))
    asked = iter([False] * steps + [True])
    with pytest.raises(PoolStoppedError):
        fitted(tmp_path, pool=UnitPool(stop=lambda: next(asked)))
    gone_on, _ = fitted(tmp_path)
    assert gone_on.digest == whole.digest
    assert gone_on.rows == whole.rows


def test_what_goes_wrong_says_where_and_what_to_do(tmp_path) -> None:
    with pytest.raises(InputError, match=r"level0, epoch \d, step \d: micro-batch \d: .* try a lower learning rate"):
        fitted(tmp_path, learning_rate=1e30, optimizer="sgd", epochs=5)
    # one step, after which weights are finite and what they give is not
    with pytest.raises(
        InputError, match=r"level3, after epoch 1: scores of tiles are no finite .* lower --learning-rate"
    ):
        fitted(tmp_path, name="level3", learning_rate=1e30, epochs=1, batch_size=len(TILES))
    with pytest.raises(InputError, match="level4, epoch 1, step 1: weights become no finite numbers"):
        fitted(tmp_path, name="level4", learning_rate=1e39, epochs=1)
    (tmp_path / "level1.state.pt").write_bytes(b"no state")
    with pytest.raises(InputError, match="delete it"):
        fitted(tmp_path, name="level1")
    fitted(tmp_path, name="level2")
    with pytest.raises(InputError, match=r"with another --learning-rate \(0.01, here 0.02\)"):
        fitted(tmp_path, name="level2", learning_rate=0.02)


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"learning_rate": math.nan}, "--learning-rate nan"),
        ({"momentum": 1.0}, "--momentum 1"),
        ({"nesterov": True}, "--nesterov is a way of --optimizer sgd"),
        ({"drop_at": (3,)}, "--drop-at says where --schedule steps"),
        ({"warm_up": 10}, "--warm-up 10: there are 10 epochs"),
        ({"loss": "hinge"}, "--loss hinge"),
        ({"micro_batch": 1}, "at least 2 tiles"),
    ],
)
def test_settings_that_make_no_sense_are_refused(choices, said) -> None:
    with pytest.raises(UsageError, match=said):
        FitSettings(**choices)


def test_words_of_options_are_read() -> None:
    assert parse_class_weights("balanced") == "balanced"
    assert parse_class_weights("1,2.5") == (1.0, 2.5)
    assert parse_epochs("--drop-at", "30,60") == (30, 60)
    assert parse_augment("none") == NO_CHANGE
    assert parse_augment("turns,stain=0.2,zoom=0.1") == AugmentSettings(
        stain_factor=0.2, stain_offset=0.2, zoom=0.1
    )  # fmt: skip
    for wrong in ("0,0", "1", "1,2,3", "a,b", "-1,2", "nan,1"):
        with pytest.raises(UsageError, match="--class-weights"):
            parse_class_weights(wrong)
    for wrong in ("", "0", "5,5", "7,3", "x"):
        with pytest.raises(UsageError, match="--drop-at"):
            parse_epochs("--drop-at", wrong)
    for wrong in ("turn", "stain", "stain=x", "", "stain=0.1,,turns"):
        with pytest.raises(UsageError, match="--augment"):
            parse_augment(wrong)
    with pytest.raises(UsageError, match="shift of augmentation is 3"):
        parse_augment("shift=3")


def test_scores_of_scores() -> None:
    positive = np.array([True, True, False, False, False])
    scores = np.array([0.9, 0.4, 0.4, 0.1, 0.6], np.float32)
    assert accuracy(scores, positive) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert area_under_curve(scores, positive) == pytest.approx((3 + 1 + 0.5) / 6)
    given = [0.9, 0.4, 0.6, 0.9, 0.4]
    assert log_loss(scores, positive) == pytest.approx(-np.log(given).mean())
    assert math.isnan(area_under_curve(scores, np.ones(5, bool)))
    assert log_loss(np.array([0.0], np.float32), np.array([True])) == pytest.approx(-math.log(1e-7))


@pytest.mark.parametrize("device", ["cuda:99", "abacus"])
def test_a_device_that_is_not_there_is_a_usage_error(device) -> None:
    with pytest.raises(UsageError, match=device):
        usable_device(device, 1)


def test_ranks_train_on_cpus_and_say_so(monkeypatch) -> None:
    assert usable_device("auto", 1) in {"cpu", "cuda"}
    assert usable_device("auto", 4) == "cpu"
    monkeypatch.setattr(torch, "empty", lambda *_, **__: None)
    with pytest.raises(UsageError, match="ranks train on CPUs, and there are 4; start one"):
        usable_device("cuda", 4)
