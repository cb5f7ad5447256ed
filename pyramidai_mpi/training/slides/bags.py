"""Which tiles of a slide are looked at in a step, and in which parts: by seed, epoch and slide alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pyramidai_mpi.training.exact.random_choices import generator_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


@dataclass(frozen=True)
class Case:
    """What has a label: a slide, or all slides of a patient together.

    Attributes
    ----------
    name
        Its name in the table of labels.
    slides
        Numbers of its slides.
    target
        What is to be predicted: a class's number, a share, or time and event.
    split
        What the table says it is for; None where it does not.
    """

    name: str
    slides: tuple[int, ...]
    target: tuple[float, ...]
    split: str | None = None


@dataclass(frozen=True)
class Chunk:
    """Tiles of one slide that are computed at a time: a unit of work.

    Attributes
    ----------
    slide
        The slide's number.
    tiles
        int64 (n,): numbers of the tiles among the slide's tissue tiles, rising.
    """

    slide: int
    tiles: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Bag:
    """What is looked at of a case in one step."""

    case: Case
    chunks: tuple[Chunk, ...]

    @property
    def n_tiles(self) -> int:
        """How many tiles there are, of all slides together."""
        return sum(len(chunk.tiles) for chunk in self.chunks)


class Draw:
    """Draws tiles of slides.

    Parameters
    ----------
    seed
        Of the draw.
    per_slide
        Tiles of each slide: all of them where it has no more, none twice.
    chunk
        Tiles of a chunk; the last of a slide has what is left.
    names, n_tiles
        Of each slide: its name, by which its tiles are drawn whatever slides are beside it, and how many it has.
    """

    def __init__(self, seed: int, per_slide: int, chunk: int, names: Sequence[str], n_tiles: Sequence[int]) -> None:
        self._seed, self._per_slide, self._chunk = seed, per_slide, chunk
        self._names, self._n_tiles = names, n_tiles

    def bag(self, case: Case, epoch: int | None) -> Bag:
        """Tiles of a case for an epoch; None for those that judge the network, which are always the same."""
        purpose = "tiles to judge" if epoch is None else f"tiles of epoch {epoch}"
        chunks = []
        for slide in case.slides:
            generator = generator_of(self._seed, f"{purpose} of {self._names[slide]}")
            drawn = np.sort(generator.permutation(self._n_tiles[slide])[: self._per_slide]).astype(np.int64)
            chunks += [Chunk(slide, drawn[at : at + self._chunk]) for at in range(0, len(drawn), self._chunk)]
        return Bag(case, tuple(chunks))


def steps_of_epoch(seed: int, epoch: int, cases: Sequence[Case], per_step: int, *, events: bool) -> list[list[Case]]:
    """The cases of each step of an epoch, in an order of its own.

    Parameters
    ----------
    seed, epoch
        What the order follows from.
    cases, per_step
        The cases to learn from, and how many a step has.
    events
        Whether each step needs a case with an event, as of a step without one nothing can be learnt; there are no more
        steps than events then.
    """
    order = generator_of(seed, "order of slides", epoch).permutation(len(cases))
    n_steps = -(-len(cases) // per_step)
    if events:
        with_event = np.array([cases[place].target[1] > 0 for place in order])
        order = np.concatenate([order[with_event], order[~with_event]])
        n_steps = min(n_steps, int(with_event.sum()))
        return [[cases[place] for place in order[step::n_steps]] for step in range(n_steps)]
    return [[cases[place] for place in order[step * per_step : (step + 1) * per_step]] for step in range(n_steps)]
