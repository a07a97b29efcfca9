"""Callbacks: throughput, averaged weights, validations, history, progress, panels, histograms."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, RichProgressBar, WeightAveraging
from pytorch_lightning.loggers import Logger
from torch.optim.swa_utils import get_ema_multi_avg_fn

from toyfcn.data.collate import Batch, names
from toyfcn.data.datamodule import SegmentationData
from toyfcn.evaluation import pictures
from toyfcn.evaluation.scoring import predictions
from toyfcn.models.kernels.by_device import laid_out_as
from toyfcn.runs.failures import optional
from toyfcn.runs.history import read_history, write_history
from toyfcn.runs.lightning_internals import average_step, averaged
from toyfcn.runs.run import Pruned, Pruner
from toyfcn.training.run_logger import RunLogger
from toyfcn.training.task import SegmentationTask
from toyfcn.training.tensorboard import Curves

log = logging.getLogger("toyfcn.epoch")
WIDTH = 800  # pixels of a panel at most: TensorBoard reads those of all runs


class ThroughputMonitor(Callback):
    """Measures images/s of training (validation excluded) and logs one line a validation."""

    def __init__(self) -> None:
        self.images, self.seconds, self.started = 0, 0.0, 0.0

    @property
    def state_key(self) -> str:
        """Return the name in checkpoints, which older ones have too."""
        return "Monitor"

    @property
    def images_per_second(self) -> float:
        """Images trained on in a second, so far."""
        return self.images / self.seconds if self.seconds else 0.0

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run counts on from."""
        return {"images": self.images, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Count on from what ``state_dict`` returned."""
        self.images, self.seconds = int(state_dict["images"]), float(state_dict["seconds"])

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        """Count the batch and the time since the last one."""
        now = time.perf_counter()
        self.images += len(names(batch)) * trainer.world_size
        self.seconds += now - self.started
        self.started = now

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Log one line, and leave the validation's time out of the rate."""
        self.started = time.perf_counter()
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            seen = {key: float(value) for key, value in trainer.callback_metrics.items()}
            log.info(
                "step %d/%s  epoch %d  loss %.4f  val loss %.4f  val mean IU %.4f  %.0f images/s",
                trainer.global_step,
                trainer.max_steps if trainer.max_steps > 0 else "?",
                trainer.current_epoch,
                seen.get("train/loss", float("nan")),
                seen["val/loss"],
                seen["val/miou"],
                self.images_per_second,
            )


class MovingAverage(WeightAveraging):
    """The exponential moving average of the weights, of all in one call: Lightning's takes each.

    No GPU is waited for.
    """

    def __init__(self, decay: float, device: torch.device) -> None:
        self.average_all = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        super().__init__(device=device, multi_avg_fn=self.average_all)

    @property
    def state_key(self) -> str:
        """Return the name in checkpoints, which older ones have too."""
        return "EMAWeightAveraging"

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lay the averaged weights out as the others, or a GPU would take each by itself."""
        for kept, own in averaged(self, pl_module):
            kept.data = laid_out_as(own, kept.data)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, i: int
    ) -> None:
        """Take in the step."""
        if not average_step(self, pl_module, trainer.global_step, self.average_all):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, i)


class LastValidation(Callback):
    """Makes a training end with a validation where ``trainer.val_every`` does not divide its steps.

    Lightning validates every so many steps, and once more when a training is asked to stop.
    """

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Batch, i: int
    ) -> None:
        """Ask at the last step, where no validation is due anyway."""
        last = trainer.enable_validation and trainer.global_step == trainer.max_steps
        if last and trainer.max_steps % (trainer.val_check_batch or 1):
            trainer.should_stop = True


class HistoryWriter(Callback):
    """Keeps history.csv, and ends a run that is a hopeless trial of a search.

    ``seconds`` is the time since this process began to train; ``figure`` is the one of the
    validation that is reported to the trial.
    """

    def __init__(self, path: Path, figure: str, pruning: Pruner | None = None) -> None:
        self.path, self.figure, self.pruning = path, figure, pruning
        self.started = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.started = time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add a line; report to the trial.

        Raises:
            Pruned: the others were better at this step.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        assert isinstance(pl_module, SegmentationTask)
        seen, found = trainer.callback_metrics, pl_module.results
        value = found[self.figure]
        row = {
            "step": trainer.global_step,
            "epoch": trainer.current_epoch,
            "train_loss": float(seen.get("train/loss", float("nan"))),
            "val_loss": found["loss"],
            "val_miou": found["miou"],
            "val_pixel_acc": found["pixel_acc"],
            "seconds": round(time.perf_counter() - self.started, 2),
        } | {f"val_{self.figure}": value}
        # an earlier process may have come further than the checkpoint that this one went on from
        before = [line for line in read_history(self.path) if line["step"] < row["step"]]
        try:
            write_history(self.path, [*before, row])
        except OSError as error:
            log.warning("%s could not be written: %s", self.path, error.strerror or error)
        if self.pruning is None or value is None:
            return
        at_the_end = 0 < trainer.max_steps <= trainer.global_step
        if self.pruning.hopeless(trainer.global_step, value) and not at_the_end:
            raise Pruned(f"val {self.figure} {value:.4f} at step {trainer.global_step}")


class ProgressBar(RichProgressBar):
    """A rich bar with loss, mean IU and images/s; ``every`` is logger.every."""

    def __init__(self, monitor: ThroughputMonitor, every: int) -> None:
        super().__init__(leave=False)
        self.monitor, self.every = monitor, every
        self.seen: dict[str, float] = {}
        self.redirected: list[tuple[logging.StreamHandler[Any], Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let what is logged be printed above the bar, by rich, which has replaced stdout."""
        before = sys.stdout
        super().on_train_start(trainer, pl_module)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is before:
                handler.setStream(sys.stdout)
                self.redirected.append((handler, before))

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the handlers their stream back."""
        super().teardown(trainer, pl_module, stage)
        for handler, stream in self.redirected:
            handler.setStream(stream)
        self.redirected.clear()

    def get_metrics(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """Name the figures behind the bar; a GPU is asked for the loss when the curves are."""
        if trainer.validating or trainer.global_step % self.every == 0:
            found = trainer.callback_metrics
            shown = {"train/loss": "loss", "val/miou": "mean IU"}
            self.seen |= {shown[key]: float(found[key]) for key in shown if key in found}
        return {
            **{name: f"{value:.3f}" for name, value in self.seen.items()},
            "images/s": f"{self.monitor.images_per_second:.0f}",
        }


class PredictionPanels(Callback):
    """Shows image | ground truth | prediction | errors of the first validation images."""

    def __init__(self, data: SegmentationData, photos: int) -> None:
        self.data, self.photos = data, photos

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Draw the panels of the weights that are scored: the averaged ones, where there are any.

        So this callback comes before the one that takes these out of the network again.
        """
        if trainer.sanity_checking or not trainer.is_global_zero or trainer.state.fn != "fit":
            return
        split = self.data.config.val_split
        assert isinstance(pl_module, SegmentationTask) and split
        with optional("the panels of a validation"):
            ids = self.data.split_ids(split)[: self.photos]
            show(trainer.loggers, "panels", pl_module.net, self.data, ids, trainer.global_step)


class Histograms(Callback):
    """Shows weights and gradients every ``every`` steps: just before each validation."""

    def __init__(self, every: int) -> None:
        self.every = every

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Log what the step starts from."""
        step = trainer.global_step + 1
        validated = step % self.every == 0 or step == trainer.max_steps
        if not validated or not trainer.is_global_zero:
            return

        def write(curves: Curves) -> None:
            for name, parameter in pl_module.named_parameters():
                curves.experiment.add_histogram(f"weights/{name}", parameter.detach().float(), step)
                if parameter.grad is not None and parameter.grad.isfinite().all():
                    gradient = parameter.grad.float()
                    curves.experiment.add_histogram(f"gradients/{name}", gradient, step)

        for logger in trainer.loggers:
            if isinstance(logger, Curves):
                logger.attempt(write, logger)


def show(
    loggers: Iterable[Logger],
    group: str,
    net: torch.nn.Module,
    data: SegmentationData,
    ids: Iterable[str],
    step: int,
) -> None:
    """Predict photos, and give their panels to the loggers of a run as ``group``/ID."""
    for name, row in panels(net, data, ids):
        for logger in loggers:
            if isinstance(logger, RunLogger):
                tag, pixels = f"{group}/{name}", pictures.shrink(row, WIDTH)
                logger.attempt(logger.put_image, tag, pixels, step)


@torch.compiler.set_stance("force_eager")  # as in scoring: photos of all sizes
def panels(
    net: torch.nn.Module, data: SegmentationData, ids: Iterable[str]
) -> list[tuple[str, pictures.Pixels]]:
    """Predict photos: (id, panel at the photo's size) for each."""
    palette, void = data.source.palette, data.source.void
    return [
        (name, pictures.panel(photo, target, labels, palette, void))
        for name, photo, target, labels in predictions(net, data, ids)
    ]
