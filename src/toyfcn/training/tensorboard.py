"""What goes to TensorBoard: curves, pictures, parameters, config, histograms, the graph.

A run that goes on leaves no doubled point, and none is fatal to it where the disk is full.
"""

from __future__ import annotations

import dataclasses
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.logger import rank_zero_experiment
from omegaconf import OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import SessionLog
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from toyfcn.config.commands import TrainConfig
from toyfcn.evaluation import pictures
from toyfcn.evaluation.per_image import ImageCounts
from toyfcn.runs.resume import flatten

log = logging.getLogger(__name__)

# in the HParams tab of every run, beside what its command line chose: few, for TensorBoard shows
# the first five columns of its own alphabetical order
ALWAYS = ("data.name", "model.name", "recipe.lr", "seed")
FIGURES = ("miou", "pixel_acc", "loss")
FILES = "events.out.tfevents.*"


class Curves(TensorBoardLogger):
    """Lightning's logger for a run's folder, with which a run goes on where the disk is full.

    ``resumed_at`` is the step that a run goes on from. What an earlier process logged after it is
    hidden by TensorBoard's own ``purge_step``; what stands at that step already is not logged
    again: a validation or the final scores that are computed once more are the same.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        super().__init__(folder, name="tensorboard", version="", default_hp_metric=False)
        self.writer: SummaryWriter | None = None
        self.resumed_at, self.purge_step = (
            resumed_at,
            None if resumed_at is None else resumed_at + 1,
        )
        self.present = set() if resumed_at is None else tags_at(Path(self.log_dir), resumed_at)
        self.warned = False
        threading.excepthook = ignore_full_disk

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        """PyTorch's writer; the first one of a resumed run hides what comes after its step."""
        if self.writer is None:
            wait_for_a_later_name(Path(self.log_dir))
            self.writer = SummaryWriter(self.log_dir, purge_step=self.purge_step)
            self.purge_step = None
        return self.writer

    def is_new(self, tag: str, step: int | None) -> bool:
        """Tell whether a tag has no point at a step yet."""
        return step is None or step != self.resumed_at or tag not in self.present

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add points."""

        def write() -> None:
            new = {tag: value for tag, value in metrics.items() if self.is_new(tag, step)}
            super(Curves, self).log_metrics(new, step)

        self.attempt(write)

    @rank_zero_only
    def add_image(self, tag: str, pixels: Any, step: int) -> None:
        """Add a picture, uint8 (H, W, 3)."""

        def write() -> None:
            if self.is_new(tag, step):
                self.experiment.add_image(tag, pixels, step, dataformats="HWC")

        self.attempt(write)

    @rank_zero_only
    def save(self) -> None:
        """Flush, so that all points are on disk."""
        self.attempt(super().save)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush and close."""
        if self.writer is not None:
            self.save()
            self.attempt(self.writer.close)

    def attempt(self, write: Callable[[], None]) -> None:
        """Write, or warn once that points are lost where the disk does not take them."""
        try:
            write()
        except (OSError, ValueError) as error:  # Lightning makes a ValueError of any
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            if not isinstance(cause, OSError):
                raise
            if not self.warned:
                log.warning("%s: points of the curves are lost: %s", self.log_dir, cause)
            self.warned = True
            self.writer = None  # what comes next begins a file of its own


def tags_at(folder: Path, step: int) -> set[str]:
    """Return the tags that have a point at a step, in the event files of a run's TensorBoard."""
    tags: set[str] = set()
    for path in sorted(folder.glob(FILES)):  # the order in which TensorBoard reads them
        for event in LegacyEventFileLoader(str(path)).Load():
            if event.session_log.status == SessionLog.START and event.step <= step:
                tags.clear()  # an earlier process went on from before this step
            if event.step == step:
                tags.update(value.tag for value in event.summary.value)
    return tags


def wait_for_a_later_name(folder: Path) -> None:
    """Wait until a new event file comes last: TensorBoard reads them in the order of their names.

    A name begins with the second in which the file was made; two of one second, as of a run that
    goes on in the same process, would be read in any order.
    """
    seconds = [int(path.name.split(".")[3]) for path in folder.glob(FILES)]
    time.sleep(min(1.0, max(0.0, max(seconds, default=0) + 1 - time.time())))


def remove_events(folder: Path) -> None:
    """Delete the event files that another run has left in a run's folder."""
    for path in (folder / "tensorboard").glob(FILES):
        path.unlink()


def ignore_full_disk(args: threading.ExceptHookArgs) -> None:
    """Leave out what TensorBoard's writing thread cannot write: ``Curves.attempt`` tells of it."""
    writer = type(args.thread).__name__ == "_AsyncWriterThread"
    if not (writer and isinstance(args.exc_value, OSError)):
        threading.__excepthook__(args)


def log_config(logger: Curves, config: TrainConfig) -> None:
    """Show the whole config as text."""
    text = OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))
    fence = "`" * (1 + max(3, *map(len, re.findall("`+", text + "`"))))  # longer than any in it
    logger.experiment.add_text("config", f"{fence}yaml\n{text}{fence}", 0)


def log_results(
    logger: Curves,
    config: TrainConfig,
    chosen: Iterable[str],
    metrics: dict[str, Any],
    counts: dict[str, ImageCounts],
    step: int,
) -> None:
    """Show how a run ended: a row of the HParams tab, and a confusion matrix for each split.

    ``chosen`` are the overrides of the command line, which a sweep has alike in all of its jobs;
    ``metrics`` is the content of metrics.json, of the best checkpoint; ``counts`` has what was
    counted on each photo, by split.
    """
    found = {  # a name that sorts behind val/…: TensorBoard opens on curves, not on single points
        f"with_best/{split}_{key}": float(scores[key])
        for split, scores in metrics.items()
        if scores is not None
        for key in FIGURES
        if scores[key] is not None
    }
    logger.log_hyperparams(parameters(config, chosen), found, step)
    for split, images in counts.items():
        title = f"{split}: share of each true class, %"
        picture = pictures.confusion(images.matrices.sum(0), images.classes, title)
        logger.add_image(f"confusion/{split}", picture, step)


def parameters(config: TrainConfig, chosen: Iterable[str]) -> dict[str, Any]:
    """Return {option: plain value} of what compares runs."""
    flat = flatten(dataclasses.asdict(config))
    named = [override.lstrip("+").partition("=")[0] for override in chosen]
    apart = {*flat} - {*ALWAYS, "resume", "rerun"}
    keys = [*ALWAYS, *sorted(apart.intersection(named))]
    plain = int | float | str  # bool is an int
    return {key: flat[key] if isinstance(flat[key], plain) else str(flat[key]) for key in keys}


def log_graph(logger: Curves, net: torch.nn.Module, image: Tensor) -> None:
    """Show the network's graph, traced on a photo uint8 (3, h, w); the network stays as it is."""
    training = net.training
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # add_graph's way of tracing
        logger.experiment.add_graph(net.eval(), image[None].to(next(net.parameters()).device))
    net.train(training)
