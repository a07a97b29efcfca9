"""Which images come when: pure arithmetic on (seed, epoch, step), without reading anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Key(NamedTuple):
    """One sample to read: its number in the whole schedule, and the image's place in the split."""

    number: int
    image: int


@dataclass(frozen=True)
class Schedule:
    """The batches of a split of ``images`` images, in every epoch.

    ``sampling`` is ``epoch`` (every image once an epoch, the last batch may be smaller),
    ``uniform`` (each batch a fresh sample without replacement: the diary's) or ``list`` (the list's
    own order, for scoring). Under several processes each takes its share of every batch, so that
    ``batch_size`` counts all processes together and a run does not depend on their number.
    """

    images: int
    batch_size: int
    sampling: str = "epoch"
    seed: int = 0
    rank: int = 0
    processes: int = 1

    def __post_init__(self) -> None:
        assert self.images > 0 and 0 <= self.rank < self.processes
        if self.sampling == "uniform" and self.batch_size > self.images:
            raise ValueError(
                f"data.batch_size={self.batch_size} cannot be sampled without replacement from "
                f"{self.images} images"
            )

    @property
    def steps(self) -> int:
        """Batches in an epoch: ⌈images / batch_size⌉."""
        return -(-self.images // self.batch_size)

    def batches(self, epoch: int, start: int = 0) -> Iterator[list[Key]]:
        """Yield this process's part of each batch of an epoch, from step ``start`` on."""
        order = self._order(epoch) if self.sampling != "uniform" else None
        first = epoch * self.steps * self.batch_size
        for step in range(start, self.steps):
            at = step * self.batch_size
            if order is None:
                rng = np.random.default_rng([self.seed, epoch, step])
                batch = rng.choice(self.images, self.batch_size, replace=False)
            else:
                batch = order[at : at + self.batch_size]
            keys = [Key(first + at + i, int(index)) for i, index in enumerate(batch)]
            yield keys[self.rank :: self.processes]

    def _order(self, epoch: int) -> np.ndarray:
        if self.sampling == "list":
            return np.arange(self.images)
        return np.random.default_rng([self.seed, epoch]).permutation(self.images)
