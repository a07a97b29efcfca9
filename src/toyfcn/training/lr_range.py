"""A learning-rate range test (Smith 2017, section 3.3): trainer.lr_range, as debug=lr sets it.

The learning rate rises exponentially from step to step; the loss falls, first slowly and then
quickly, and in the end diverges. Where it falls most steeply is a good peak for one cycle.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric.utilities import move_data_to_device

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.loader import sample_seed
from toyfcn.files import write_text
from toyfcn.models.kernels.by_device import choose_kernels
from toyfcn.training.optimizers import make_optimizer
from toyfcn.training.task import SegmentationTask

SMOOTHING = 0.9  # of the loss, over the steps
DIVERGED = 4  # times the least smoothed loss
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LRRange:
    """What was measured: a learning rate, the loss, and the smoothed loss of each step."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]

    def suggestion(self) -> float | None:
        """Return the learning rate where the smoothed loss falls most steeply, None if nowhere.

        The first tenth of the steps does not count: there the mean has few losses.
        """
        first = len(self.lrs) // 10
        if len(self.lrs) - first < 3:
            return None
        slopes = np.gradient(self.smoothed[first:], np.log(self.lrs[first:]))
        steepest = int(np.argmin(slopes))
        return self.lrs[first + steepest] if slopes[steepest] < 0 else None


def run_range_test(config: TrainConfig, task: SegmentationTask, data: SegmentationData) -> LRRange:
    """Train for trainer.max_steps with a rising learning rate, until the loss diverges.

    The network is left as it ends.

    Raises:
        ValueError: options that it does not follow.
    """
    trainer = config.trainer
    assert trainer.lr_range is not None
    low, high = trainer.lr_range
    span = max(1, trainer.max_steps - 1)
    found, mean = LRRange([], [], []), 0.0
    steps = plain_steps(config, task, data, lambda step: low * (high / low) ** (step / span))
    for step, (lr, value) in zip(range(trainer.max_steps), steps, strict=False):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * value
        smoothed = mean / (1 - SMOOTHING ** (step + 1))
        if not math.isfinite(smoothed) or smoothed > DIVERGED * min([smoothed, *found.smoothed]):
            log.info("the loss diverges at a learning rate of %.2g", lr)
            break
        found.lrs.append(lr)
        found.losses.append(value)
        found.smoothed.append(smoothed)
    return found


def plain_steps(
    config: TrainConfig,
    task: SegmentationTask,
    data: SegmentationData,
    lr_of: Callable[[int], float],
) -> Iterator[tuple[float, float]]:
    """Train without Lightning; yield learning rate and loss after each step, without an end.

    ``lr_of`` tells the learning rate of a step, counted from 0; every parameter group keeps its
    share of it.
    """
    recipe, device = config.recipe, hardware.device(config.trainer.accelerator)
    assert recipe.lr is not None
    task.to(device).train()
    choose_kernels(task.net, device)
    task.class_weights = task.class_weights.to(device)
    optimizer = make_optimizer(task.net, recipe)
    shares = [group["lr"] / recipe.lr for group in optimizer.param_groups]
    batches = itertools.chain.from_iterable(itertools.repeat(data.train_dataloader()))
    for step in itertools.count():
        lr = lr_of(step)
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = lr * share
        torch.manual_seed(sample_seed(config.seed, step, "lr range"))
        if recipe.freeze or recipe.freeze_norm:
            task.freeze_backbone()
        total, weight = task.loss_sums_of(move_data_to_device(next(batches), device))
        loss = total / weight.clamp(min=1e-6)
        optimizer.zero_grad()
        torch.autograd.backward(total if recipe.reduction == "sum" else loss)
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(task.net.parameters(), recipe.clip)
        optimizer.step()
        yield lr, loss.item()


def write_range(found: LRRange, folder: Path) -> None:
    """Write lr_range.csv and draw lr_range.png into a run's folder; print the suggestion."""
    from matplotlib.figure import Figure  # here, because nothing else of a training needs it

    rows = zip(found.lrs, found.losses, found.smoothed, strict=True)
    lines = ["lr,loss,smoothed", *(f"{lr:.8g},{loss:.6f},{mean:.6f}" for lr, loss, mean in rows)]
    write_text(folder / "lr_range.csv", "\n".join(lines) + "\n")
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.semilogx(found.lrs, found.losses, color="0.8", label="loss of a batch")
    axes.semilogx(found.lrs, found.smoothed, label="smoothed")
    best = found.suggestion()
    if best is not None:
        axes.axvline(best, color="tab:red", label=f"steepest at {best:.2g}")
    axes.set(xlabel="learning rate (recipe.lr)", ylabel="training loss")
    axes.legend()
    figure.savefig(folder / "lr_range.png", dpi=150)
    print(f"plot:         {folder / 'lr_range.png'}")
    if best is None:
        print("suggestion:   none, the loss falls nowhere")
    else:
        print(f"suggestion:   recipe.lr={best:.1g}")
