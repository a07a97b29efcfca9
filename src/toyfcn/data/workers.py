"""What a loader worker does with signals, and when its run has been killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def signals_held() -> Iterator[None]:
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
    """Make a loader worker survive what asks its run to stop, but not the run itself."""
    survive_signals()
    end_with_parent()


def end_with_parent() -> None:
    """Make a loader worker end when the run has been killed.

    PyTorch's workers watch the process that forked them. Where that is multiprocessing's
    forkserver, it lives as long as they do: both would stay forever, with all their memory.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def survive_signals() -> None:
    """Make a loader worker ignore SIGHUP and the first SIGTERM, and end at the second.

    A terminal that closes and batch systems send them to all processes at once, but the run needs
    its batches until it has saved; it ends its workers itself. The parent's own way of ending one
    that hangs asks twice. One that came before and is pending (see ``signals_held``) is the first.
    """

    def note(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, note)
    if hasattr(signal, "pthread_sigmask"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM, signal.SIGHUP])
