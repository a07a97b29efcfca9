"""Photos side by side in threads: reading, computing and writing all let other threads run.

On a CPU each photo has one thread: the network's layers are too small to be shared among several,
and what surrounds it (decoding, enlarging, compressing) has no more than one anyway.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from threading import Condition
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
AHEAD = 4  # photos begun for each thread before the first of them is asked for
ROOM = 1 << 21  # pixels that networks see at one time, so that memory is bounded


class Room:
    """Lets photos in as long as they have no more than ``ROOM`` pixels together.

    A larger one is let in alone, and may then use ``threads`` CPU threads; others use one.
    """

    def __init__(self, threads: int) -> None:
        self.threads, self.taken, self.changed = threads, 0, Condition()

    @contextmanager
    def taken_by(self, pixels: int) -> Iterator[None]:
        """Wait until there is room for so many pixels, and hold it in the block."""
        pixels = min(pixels, ROOM)
        with self.changed:
            self.changed.wait_for(lambda: self.taken + pixels <= ROOM)
            self.taken += pixels
        torch.set_num_threads(self.threads if pixels == ROOM else 1)
        try:
            yield
        finally:
            with self.changed:
                self.taken -= pixels
                self.changed.notify_all()


def in_threads(job: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield ``job`` of each item in their order, computed by so many threads, a few ahead."""
    waiting: deque[Future[R]] = deque()
    given, threads = iter(items), torch.get_num_threads()
    pool = ThreadPoolExecutor(workers)
    try:
        waiting.extend(pool.submit(job, item) for item in islice(given, AHEAD * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(job, item) for item in islice(given, 1))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # a thread's own setting is that of later ones, too
