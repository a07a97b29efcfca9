"""The lazy loader: the order is computed, a sample is read when its turn comes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from toyfcn.data.cache import PixelCache
from toyfcn.data.collate import Sample
from toyfcn.data.resizing import resize_image, working_size
from toyfcn.data.sampler import EpochSampler, Key
from toyfcn.data.source import Source
from toyfcn.data.workers import signals_held


class LazyDataset(Dataset[Sample]):
    """Reads one pair when its key is asked for; a sample's randomness is (seed, number, id).

    ``transform`` is called with photo, mask and the sample's seed; without one the photo is
    resized to its working size and the mask stays as it is.
    """

    def __init__(
        self,
        source: Source,
        ids: tuple[str, ...],
        transform: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None,
        short_side: int | None,
        seed: int,
        cache: PixelCache | None = None,
    ) -> None:
        self.source, self.ids, self.transform = source, ids, transform
        self.short_side, self.seed, self.cache = short_side, seed, cache

    def __getitem__(self, key: Key) -> Sample:
        name = self.ids[key.image]
        image, mask = (self.cache or self.source).pair(name)
        if self.transform is None:
            return resize_image(image, working_size(mask.shape, self.short_side)), mask, name
        return *self.transform(image, mask, sample_seed(self.seed, key.number, name)), name


def sample_seed(seed: int, number: int, name: str) -> int:
    """Mix (seed, number of the sample, id) into 64 bits, the same on every machine."""
    text = f"{seed}/{number}/{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class ResumableLoader(DataLoader[Sample]):
    """A DataLoader whose batches follow a sampler, and that can start at any (epoch, step).

    Its state is the position after the last batch handed out, whatever the workers have read ahead.
    """

    def __init__(self, dataset: LazyDataset, sampler: EpochSampler, **settings: Any) -> None:
        self.position = {"epoch": 0, "step": 0}
        self.order = sampler
        super().__init__(dataset, batch_sampler=_FromHere(sampler, self.position), **settings)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private class
        if self.order.sampling == "list":  # scoring always begins at the beginning
            self.position.update(step=0)
        elif self.position["step"] >= self.order.steps:
            self.position.update(epoch=self.position["epoch"] + 1, step=0)
        with signals_held():  # torch's own handler would end workers that have only just started
            batches = super().__iter__()
        for batch in batches:
            self.position["step"] += 1
            yield batch

    def __len__(self) -> int:
        return self.order.steps

    def state_dict(self) -> dict[str, int]:
        """Return the position, for checkpoints."""
        return dict(self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position that ``state_dict`` returned; the next iteration starts there."""
        self.position.update(state)


class _FromHere:
    """The DataLoader's batch sampler: the rest of the epoch from the loader's position on."""

    def __init__(self, sampler: EpochSampler, position: dict[str, int]) -> None:
        self.sampler, self.position = sampler, position

    def __iter__(self) -> Iterator[list[Key]]:
        return self.sampler.batches(self.position["epoch"], self.position["step"])

    def __len__(self) -> int:
        return self.sampler.steps
