"""Progress bars for all but training itself: on a terminal only, and on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from toyfcn.data.collate import Batch

PERIOD = 0.1  # seconds between two updates of a bar
Advance = Callable[[int, int], None]  # called with (done, total); a total of 0 is unknown


@contextmanager
def progress(what: str, *, in_bytes: bool = False, show: bool = True) -> Iterator[Advance]:
    """Show a bar called ``what`` while the block runs; yield the function that moves it."""
    console = Console(stderr=True)
    amount: tuple[ProgressColumn, ...] = (MofNCompleteColumn(),)
    if in_bytes:
        amount = (DownloadColumn(binary_units=True), TransferSpeedColumn())
    text = TextColumn("{task.description}", markup=False)
    columns = (text, BarColumn(), *amount, TimeRemainingColumn())
    # no refreshing thread: the shapes are drawn by forked processes, and threads do not fork well
    silent = not (show and console.is_terminal)
    with Progress(
        *columns, console=console, transient=True, auto_refresh=False, disable=silent
    ) as bars:
        task, shown = bars.add_task(what, total=None), 0.0

        def advance(done: int, total: int) -> None:
            nonlocal shown
            bars.update(task, completed=done, total=total or None)
            if time.monotonic() - shown > PERIOD:
                bars.refresh()
                shown = time.monotonic()

        yield advance


def counted(
    loader: Iterable[list[Batch]], what: str, photos: int, *, show: bool = True
) -> Iterator[list[Batch]]:
    """Yield what a scoring loader does, beside a bar of how many of the photos are done."""
    done = 0
    with progress(what, show=show) as advance:
        for batches in loader:
            yield batches
            done += sum(len(batch["id"]) for batch in batches)
            advance(done, photos)
