"""The lazy iterator: the order is computed, a sample is read when its turn comes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from toyfcn.data.cache import PixelCache
from toyfcn.data.collate import CutSample, Sample
from toyfcn.data.sampler import Key, Schedule
from toyfcn.data.transforms import TrainTransform, resize_image, working_size
from toyfcn.data.voc import Source


class LazyDataset(Dataset[Sample | CutSample]):
    """Reads one pair when its key is asked for; a sample's randomness is (seed, number, id).

    With ``cut`` the transform only chooses and cuts the window out: the rest is left to a device.
    """

    def __init__(
        self,
        source: Source,
        ids: tuple[str, ...],
        transform: Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]] | None,
        short_side: int | None,
        seed: int,
        cache: PixelCache | None = None,
        cut: bool = False,
    ) -> None:
        self.source, self.ids, self.transform = source, ids, transform
        self.short_side, self.seed, self.cache, self.cut = short_side, seed, cache, cut

    def __getitem__(self, key: Key) -> Sample | CutSample:
        name = self.ids[key.image]
        image, mask = (self.cache or self.source).pair(name)
        if self.transform is None:
            return resize_image(image, working_size(mask.shape, self.short_side)), mask, name
        seed = sample_seed(self.seed, key.number, name)
        if not self.cut:
            return *self.transform(image, mask, seed), name
        assert isinstance(self.transform, TrainTransform)
        image, mask, choices = self.transform.draw(image, mask, seed)
        # copies, for a worker hands over all of what a view looks at; pixel by pixel as it was
        image = image.permute(1, 2, 0).clone(memory_format=torch.contiguous_format)
        return image.permute(2, 0, 1), mask.clone(), name, choices


def sample_seed(seed: int, number: int, name: str) -> int:
    """Mix (seed, number in the schedule, id) into 64 bits, the same on every machine."""
    text = f"{seed}/{number}/{name}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


@contextmanager
def signals_wait() -> Iterator[None]:
    """Hold SIGTERM and SIGHUP back, here and in the processes that start meanwhile."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows has none to hold back
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGHUP])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_worker(worker: int) -> None:
    """Make a loader worker outlive what asks its run to stop, but not the run itself."""
    outlive_signals()
    end_with_parent()


def end_with_parent() -> None:
    """Make a loader worker end when the run has been killed.

    PyTorch's workers watch the process that forked them. Where that is multiprocessing's forkserver
    it stays as long as they do: both would be there for ever, with all their memory.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def outlive_signals() -> None:
    """Make a loader worker ignore SIGHUP, pass over the first SIGTERM, and end at the second.

    A terminal that closes and batch systems send them to all processes at once, but the run wants
    its batches until it has saved; it ends its workers itself. The parent's own way of ending one
    that hangs asks twice. One that came before, and waits (see ``signals_wait``), is the first.
    """

    def note(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, note)
    if hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGHUP])


class ScheduledLoader(DataLoader[Sample | CutSample]):
    """A DataLoader whose batches follow a schedule, that can start at any (epoch, step).

    Its state is the position after the last batch handed out, whatever the workers have read ahead.
    """

    def __init__(self, dataset: LazyDataset, schedule: Schedule, **settings: Any) -> None:
        self.position = {"epoch": 0, "step": 0}
        self.schedule = schedule
        super().__init__(dataset, batch_sampler=_Order(schedule, self.position), **settings)

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names a private class
        if self.schedule.sampling == "list":  # scoring always begins at the beginning
            self.position.update(step=0)
        elif self.position["step"] >= self.schedule.steps:
            self.position.update(epoch=self.position["epoch"] + 1, step=0)
        with signals_wait():  # torch's own handler would end workers that have only just started
            batches = super().__iter__()
        for batch in batches:
            self.position["step"] += 1
            yield batch

    def __len__(self) -> int:
        return self.schedule.steps

    def state_dict(self) -> dict[str, int]:
        """Return the position, for checkpoints."""
        return dict(self.position)

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go to a position that ``state_dict`` returned; the next iteration starts there."""
        self.position.update(state)


class _Order:
    """The batch sampler: the schedule from wherever the loader stands."""

    def __init__(self, schedule: Schedule, position: dict[str, int]) -> None:
        self.schedule, self.position = schedule, position

    def __iter__(self) -> Iterator[list[Key]]:
        return self.schedule.batches(self.position["epoch"], self.position["step"])

    def __len__(self) -> int:
        return self.schedule.steps
