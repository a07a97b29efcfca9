"""TensorBoard's curves: without a gap or a doubled point when a run goes on, and never fatal."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only

log = logging.getLogger(__name__)

ENDS = ("best/", "confusion/", "_hparams_/")  # tags of how a run ended


class Curves(TensorBoardLogger):
    """Lightning's logger, with which a run goes on where the disk is full: points are lost then."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, name="tensorboard", version="", default_hp_metric=False)
        self.told = False
        threading.excepthook = writers_apart

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add points."""
        self.attempt(lambda: super(Curves, self).log_metrics(metrics, step))

    @rank_zero_only
    def add_image(self, tag: str, pixels: Any, step: int) -> None:
        """Add a picture, uint8 (H, W, 3)."""
        self.attempt(lambda: self.experiment.add_image(tag, pixels, step, dataformats="HWC"))

    @rank_zero_only
    def save(self) -> None:
        """Flush, so that all points are on disk."""
        self.attempt(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush and close."""
        self.attempt(lambda: super(Curves, self).finalize(status))

    def attempt(self, write: Callable[[], None]) -> None:
        """Write, or say once that points are lost where the disk does not take them."""
        try:
            write()
        except (OSError, ValueError) as error:  # Lightning makes a ValueError of any
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            if not isinstance(cause, OSError):
                raise
            if not self.told:
                log.warning("%s: points of the curves are lost: %s", self.log_dir, cause)
            self.told = True
            self._experiment = None  # what comes next begins a file of its own


def writers_apart(args: threading.ExceptHookArgs) -> None:
    """Leave out what TensorBoard's writing thread cannot write: ``Curves.attempt`` tells of it."""
    writer = type(args.thread).__name__ == "_AsyncWriterThread"
    if not (writer and isinstance(args.exc_value, OSError)):
        threading.__excepthook__(args)


def cut(folder: Path, step: int | None, validated: bool = True) -> None:
    """Drop what a killed run logged after the step that it goes on from; None: all of it.

    Of the step itself everything is kept, but a validation's figures where that is done again, and
    what ``board.log_results`` says of the best checkpoint: it is scored again when a run goes on.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    def keep(event: Any) -> bool:
        tags = [value.tag for value in event.summary.value]
        if any(tag.startswith(ENDS) for tag in tags):
            return False
        if event.step != step or validated:
            return bool(event.step <= step)
        return not any(tag.startswith(("val", "panels")) for tag in tags)

    aside = folder / "cut.tmp"  # a name that TensorBoard passes over
    aside.unlink(missing_ok=True)
    for path in sorted(folder.glob("events.out.tfevents.*")):
        if step is None:
            path.unlink()
            continue
        with aside.open("wb") as file:
            writer = RecordWriter(file)
            for record in RawEventFileLoader(str(path)).Load():
                if keep(Event.FromString(record)):
                    writer.write(record)
        aside.replace(path)
