"""The gradient of two passes over chunks is that of one graph over all tiles."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from pyramidai_mpi.base.errors import InputError
from pyramidai_mpi.ranks.unit_pool import UnitPool
from pyramidai_mpi.training.augment import AugmentSettings
from pyramidai_mpi.training.exact.random_choices import generator_of
from pyramidai_mpi.training.slides.heads import BinaryHead, ClassesHead, ShareHead, SurvivalHead
from pyramidai_mpi.training.slides.joint import JointGradients
from tests.training.slides.bags_in_memory import PixelArrays, case_of, draw_of, networks, source_of

PIXELS = PixelArrays([61, 40, 17, 3])
METHODS = ["abmil", "mean", "transformer"]


def flat(network) -> np.ndarray:
    return torch.cat([p.grad.reshape(-1) for p in network.parameters()]).double().numpy()


def distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(one - other) / np.linalg.norm(other))


def plain(encoder, aggregator, slides: list[int], epoch: int) -> torch.Tensor:
    """Logits of whole slides in one graph, dropout by the same numbers."""
    logits = []
    for slide in slides:
        features = encoder(torch.from_numpy(PIXELS.tiles[slide]))
        kept = [
            generator_of(5, "dropout", epoch, slide, tile).random(features.shape[1]) >= 0.2
            for tile in range(len(features))
        ]
        logits.append(aggregator((features * torch.tensor(np.array(kept)) / 0.8)[None]))
    return torch.cat(logits)


def joint(encoder, aggregator, slides: list[int], head=None, targets=None, pixels=PIXELS):
    draw = draw_of(pixels)
    targets = targets or [(1.0,)] * len(slides)
    bags = [draw.bag(case_of(slide, target=target), 3) for slide, target in zip(slides, targets, strict=True)]
    gradients = JointGradients(UnitPool(), source_of(encoder, pixels), aggregator, head or BinaryHead(("a", "b")))
    return gradients.of_step(bags, 3)


@pytest.mark.parametrize("method", METHODS)
def test_joint_gradient_is_plain_autograds_and_in_single_precision_nearer_to_the_truth(method, capsys) -> None:
    found, truth = {}, None
    for dtype in (torch.float64, torch.float32):
        for way in (plain, joint):
            encoder, aggregator = networks(method, dtype=dtype)
            if way is plain:
                loss = torch.nn.functional.softplus(-plain(encoder, aggregator, [0], 3)).sum()
                loss.backward()
            else:
                assert joint(encoder, aggregator, [0]).loss == pytest.approx(loss.item(), rel=1e-6)
            gradient = np.concatenate([flat(encoder), flat(aggregator)])
            truth = gradient if truth is None else truth
            found[way.__name__, dtype] = distance(flat(encoder), truth[: len(flat(encoder))]), distance(gradient, truth)
    with capsys.disabled():
        print(
            f"\n{method}: encoder, both: " + "; ".join(f"{k[0]} {k[1]} {v[0]:.1e} {v[1]:.1e}" for k, v in found.items())
        )
    assert max(found["joint", torch.float64]) <= 1e-10
    assert found["joint", torch.float32][0] < found["plain", torch.float32][0]
    # most of both together is the aggregator's, which is plain autograd's either way
    assert found["joint", torch.float32][1] < 1.1 * found["plain", torch.float32][1]


HEADS = [
    (BinaryHead(("a", "b"), (1.0, 3.0)), [(1,), (0,), (1,), (0,)]),
    (ClassesHead(("a", "b", "c"), "b", (1.0, 2.0, 0.5)), [(2,), (0,), (1,), (2,)]),
    (ShareHead(), [(0.25,), (0.0,), (1.0,), (0.5,)]),
    (SurvivalHead(), [(3.0, 1.0), (5.0, 0.0), (2.0, 1.0), (2.0, 0.0)]),
]


def mean_loss(head, logits: torch.Tensor, targets: list) -> torch.Tensor:
    """By each loss's definition, one slide at a time."""
    terms, weights = [], []
    for row, target in zip(logits, targets, strict=True):
        if head.task == "binary":
            weights.append((1.0, 3.0)[target[0]])
            terms.append(-weights[-1] * torch.log(torch.sigmoid(row[0] if target[0] else -row[0])))
        elif head.task == "classes":
            weights.append((1.0, 2.0, 0.5)[target[0]])
            terms.append(-weights[-1] * torch.log(torch.exp(row[target[0]]) / torch.exp(row).sum()))
        elif head.task == "share":
            p = torch.sigmoid(row[0])
            weights.append(1.0)
            terms.append(-(target[0] * torch.log(p) + (1 - target[0]) * torch.log(1 - p)))
        elif target[1]:
            still = [other[0] for other, (time, _) in zip(logits, targets, strict=True) if time >= target[0]]
            weights.append(1.0)
            terms.append(-torch.log(torch.exp(row[0]) / sum(torch.exp(one) for one in still)))
    return sum(terms) / sum(weights)


@pytest.mark.parametrize(("head", "targets"), HEADS, ids=[str(head.task) for head, _ in HEADS])
def test_each_task_learns_its_loss_over_several_slides(head, targets) -> None:
    slides = [0, 1, 2, 3]
    encoder, aggregator = networks("abmil", head, torch.float64)
    loss = mean_loss(head, plain(encoder, aggregator, slides, 3), targets)
    loss.backward()
    expected = np.concatenate([flat(encoder), flat(aggregator)])
    encoder, aggregator = networks("abmil", head, torch.float64)
    assert joint(encoder, aggregator, slides, head, targets).mean == pytest.approx(loss.item(), rel=1e-12)
    assert distance(np.concatenate([flat(encoder), flat(aggregator)]), expected) <= 1e-10


def test_tiles_that_cannot_be_read_are_as_if_they_were_not_there() -> None:
    with_hole, without = PixelArrays([9], hole=(0, 4)), PixelArrays([9])
    without.tiles[0] = np.delete(without.tiles[0], 4, 0)
    gradients = []
    for pixels in (with_hole, without):
        encoder, aggregator = networks("abmil", dtype=torch.float64)
        source = source_of(encoder, pixels, dropout=0.0)
        JointGradients(UnitPool(), source, aggregator, HEADS[0][0]).of_step([draw_of(pixels).bag(case_of(0), 0)], 0)
        gradients.append(np.concatenate([flat(encoder), flat(aggregator)]))
    assert distance(*gradients) <= 1e-10
    nothing = PixelArrays([1], hole=(0, 0))
    encoder, aggregator = networks("mean")
    bags = [draw_of(nothing).bag(case_of(0), 0)]
    with pytest.raises(InputError, match="none of its 1 drawn tiles can be read"):
        JointGradients(UnitPool(), source_of(encoder, nothing), aggregator, HEADS[0][0]).of_step(bags, 0)


def test_a_frozen_encoder_gets_no_gradient_and_the_aggregator_the_same() -> None:
    found = []
    for frozen in (False, True):
        encoder, aggregator = networks("transformer")
        encoder.requires_grad_(requires_grad=not frozen)
        joint(encoder, aggregator, [2])
        found.append(flat(aggregator))
        assert all((p.grad is None) == frozen for p in encoder.parameters())
    assert (found[0] == found[1]).all()


def test_slides_are_judged_without_dropout_and_however_they_are_grouped(monkeypatch) -> None:
    encoder, aggregator = networks("abmil")
    draw = draw_of(PIXELS)
    gradients = JointGradients(
        UnitPool(), source_of(encoder, PIXELS, 0.5, AugmentSettings(stain_factor=0.2)), aggregator, HEADS[0][0]
    )
    bags = [draw.bag(case_of(slide), None) for slide in range(4)]
    together = gradients.logits(bags)
    monkeypatch.setattr("pyramidai_mpi.training.slides.joint._TILES_AT_A_TIME", 50)
    assert (gradients.logits(bags) == together).all()
    with torch.no_grad():
        expected = [aggregator(encoder(torch.from_numpy(tiles))[None]).item() for tiles in PIXELS.tiles]
    assert together[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_changes_of_tiles_are_those_of_the_tile_whichever_chunk_it_is_in() -> None:
    encoder, _ = networks("mean")
    source = source_of(encoder, PIXELS, 0.2, AugmentSettings(stain_factor=0.2, brightness=0.1))
    rows = []
    for chunk in (8, 5):
        bag = draw_of(PIXELS, 30, chunk).bag(case_of(0), 4)
        with torch.no_grad():
            rows.append(torch.cat([source(one, 4)[0] for one in bag.chunks]))
    assert len(rows[0]) == 30
    assert torch.allclose(*rows, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(rows[0], torch.cat([source(one, 5)[0] for one in bag.chunks]), atol=1e-3)


def test_what_is_not_finite_names_the_slide() -> None:
    encoder, aggregator = networks("mean")
    aggregator.head.bias.data[:] = float("nan")
    with pytest.raises(InputError, match=r"case \(2,\): the loss or its gradient is not a finite number"):
        joint(encoder, aggregator, [2])
    gradients = JointGradients(UnitPool(), source_of(encoder, PIXELS, 0.0), aggregator, HEADS[0][0])
    with pytest.raises(InputError, match=r"case \(2,\): what the networks say of them are no finite numbers"):
        gradients.logits([draw_of(PIXELS).bag(case_of(2), None)])


def test_a_slide_of_few_tiles_has_all_of_them_and_none_twice() -> None:
    bag = draw_of(PIXELS, 16, 5).bag(case_of(1, 3), 2)
    by_slide = {n: np.concatenate([c.tiles for c in bag.chunks if c.slide == n]).tolist() for n in (1, 3)}
    assert by_slide[3] == [0, 1, 2]
    assert len(set(by_slide[1])) == 16
    assert [len(chunk.tiles) for chunk in bag.chunks] == [5, 5, 5, 1, 3]
