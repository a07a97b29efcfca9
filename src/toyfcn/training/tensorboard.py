"""What goes to TensorBoard: curves, pictures, tables, parameters, config, histograms, the graph.

A run that goes on leaves no doubled point.
"""

from __future__ import annotations

import re
import shlex
import threading
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.loggers.logger import rank_zero_experiment
from omegaconf import OmegaConf
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import SessionLog
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from toyfcn.evaluation import pictures
from toyfcn.training.run_logger import Row, RunLogger

FILES = "events.out.tfevents.*"


class Curves(RunLogger, TensorBoardLogger):
    """Lightning's logger for a run's folder.

    ``resumed_at`` is the step that a run goes on from. What an earlier process logged after it is
    hidden by TensorBoard's own ``purge_step``; what stands at that step already is not logged
    again: a validation or the final scores that are computed once more are the same.
    """

    def __init__(self, folder: Path, resumed_at: int | None = None) -> None:
        super().__init__(folder, name="tensorboard", version="", default_hp_metric=False)
        self.writer: SummaryWriter | None = None
        self.resumed_at = resumed_at
        self.purge_step = None if resumed_at is None else resumed_at + 1
        self.present = set() if resumed_at is None else tags_at(Path(self.log_dir), resumed_at)
        self.told = f"tensorboard --logdir {shlex.quote(str(Path(self.log_dir)))}"
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

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add points."""
        super().log_metrics({t: v for t, v in metrics.items() if self.is_new(t, step)}, step)

    def put_image(self, tag: str, pixels: pictures.Pixels, step: int) -> None:
        """Add a picture."""
        if self.is_new(tag, step):
            self.experiment.add_image(tag, pixels, step, dataformats="HWC")

    def put_config(self, config: dict[str, Any]) -> None:
        """Show the config as text."""
        if self.resumed_at is None:
            text = OmegaConf.to_yaml(OmegaConf.create(config))
            fence = "`" * (1 + max(3, *map(len, re.findall("`+", text + "`"))))  # longer than any
            self.experiment.add_text("config", f"{fence}yaml\n{text}{fence}", 0)

    def put_table(self, tag: str, columns: Sequence[str], rows: Sequence[Row], step: int) -> None:
        """Show a table as text."""
        lines = [columns, ["---"] * len(columns), *rows]
        table = "\n".join(
            f"| {' | '.join('–' if x is None else str(x) for x in line)} |" for line in lines
        )
        if self.is_new(f"{tag}/text_summary", step):
            self.experiment.add_text(tag, table, step)

    def put_results(self, parameters: dict[str, Any], figures: dict[str, float], step: int) -> None:
        """Add a row to the HParams tab."""
        self.log_hyperparams(parameters, figures, step)

    def finalize(self, status: str = "success") -> None:
        """Flush and close."""
        if self.writer is not None:
            super().save()
            self.attempt(self.writer.close)

    def failed(self) -> None:
        """Let what comes next begin a file of its own."""
        self.writer = None


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


def log_graph(logger: Curves, net: torch.nn.Module, image: Tensor) -> None:
    """Show the network's graph, traced on a photo uint8 (3, h, w); the network stays as it is."""
    training = net.training
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # add_graph's way of tracing
            logger.experiment.add_graph(net.eval(), image[None].to(next(net.parameters()).device))
    finally:  # what cannot be traced would train as it is scored
        net.train(training)
