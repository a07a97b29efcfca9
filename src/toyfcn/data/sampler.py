"""Which images come when: pure arithmetic on (seed, epoch, step), without reading anything."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np


class Key(NamedTuple):
    """One sample to read: its number since the start of training, and the image's index."""

    number: int
    image: int


@dataclass(frozen=True)
class EpochSampler:
    """The batches of a split of ``images`` images, in every epoch.

    ``sampling`` is ``epoch`` (every image once an epoch, the last batch may be smaller),
    ``uniform`` (each batch a fresh sample without replacement: the diary's) or ``list`` (the list's
    own order, for scoring). Under several processes each takes its share of every batch, so that
    ``batch_size`` counts all processes together and a run does not depend on their number.

    ``buckets`` (see ``size_buckets``) are indices of images of similar size: a batch is then drawn
    from one of them, but for the few batches in an epoch that hold what is left of two neighbors.
    """

    images: int
    batch_size: int
    sampling: str = "epoch"
    seed: int = 0
    rank: int = 0
    processes: int = 1
    buckets: tuple[np.ndarray, ...] = field(default=(), repr=False, compare=False)

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
                batch = self._sample(rng)
            else:
                batch = order[at : at + self.batch_size]
            keys = [Key(first + at + i, int(index)) for i, index in enumerate(batch)]
            yield keys[self.rank :: self.processes]

    def _order(self, epoch: int) -> np.ndarray:
        if self.sampling == "list":
            return np.arange(self.images)
        rng = np.random.default_rng([self.seed, epoch])
        if not self.buckets:
            return rng.permutation(self.images)
        order = np.concatenate([rng.permutation(bucket) for bucket in self.buckets])
        full, rest = divmod(self.images, self.batch_size)
        cut = self.batch_size * int(rng.integers(full + 1))  # the small batch is cut out anywhere
        last, order = order[cut : cut + rest], np.delete(order, slice(cut, cut + rest))
        batches = rng.permutation(order.reshape(full, self.batch_size))
        return np.concatenate([batches.ravel(), last])

    def _sample(self, rng: np.random.Generator) -> np.ndarray:
        if not self.buckets:
            return rng.choice(self.images, self.batch_size, replace=False)
        at, bucket = int(rng.integers(self.images)), 0  # a bucket by the number of its images
        while at >= len(self.buckets[bucket]):
            at, bucket = at - len(self.buckets[bucket]), bucket + 1
        return rng.choice(self.buckets[bucket], self.batch_size, replace=False)


def size_buckets(sizes: np.ndarray, count: int) -> tuple[np.ndarray, ...]:
    """Sort images into ``count`` buckets of similar size: indices into ``sizes`` (N, 2), each once.

    Halves them, and the halves again, along the side whose lengths differ most. No bucket is
    smaller than ⌊N / count⌋, so each fills a batch if ``count`` is at most N // batch_size.
    """

    def split(indices: np.ndarray, count: int) -> list[np.ndarray]:
        if count <= 1:
            return [indices]
        found = sizes[indices]
        side = int(np.argmax(found.max(0) / found.min(0)))
        indices = indices[np.argsort(found[:, side], kind="stable")]
        half = len(indices) * (count // 2) // count
        return split(indices[:half], count // 2) + split(indices[half:], count - count // 2)

    return tuple(split(np.arange(len(sizes)), count))
