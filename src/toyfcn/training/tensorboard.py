"""What TensorBoard shows beside the curves: parameters, config, confusion, histograms, graph."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from toyfcn.config.commands import TrainConfig
from toyfcn.evaluation import pictures
from toyfcn.runs.resume import flatten
from toyfcn.training.curves import Curves

# in the HParams tab of every run, beside what its command line chose: few, for TensorBoard shows
# the first five columns of its own alphabetical order
ALWAYS = ("data.name", "model.name", "recipe.lr", "seed")
FIGURES = ("miou", "pixel_acc", "loss")


def log_config(logger: Any, config: TrainConfig) -> None:
    """Show the whole config as text."""
    text = OmegaConf.to_yaml(OmegaConf.create(dataclasses.asdict(config)))
    logger.experiment.add_text("config", f"```yaml\n{text}```", 0)


def log_results(
    logger: Any,
    config: TrainConfig,
    chosen: Iterable[str],
    metrics: dict[str, Any],
    matrices: dict[str, Tensor],
    step: int,
) -> None:
    """Show how a run ended: a row of the HParams tab, and a confusion matrix for each split.

    ``chosen`` are the overrides of the command line, which a sweep has alike in all of its jobs;
    ``metrics`` is the content of metrics.json, of the best checkpoint; ``matrices`` int64 (C, C).
    """
    found = {
        f"best/{split}_{key}": float(scores[key])
        for split, scores in metrics.items()
        if scores is not None
        for key in FIGURES
        if scores[key] is not None
    }
    logger.log_hyperparams(parameters(config, chosen), found, step)
    for split, matrix in matrices.items():
        names = list(metrics[split]["iou"])
        picture = pictures.confusion(
            matrix.cpu().numpy(), names, f"{split}: share of each true class, %"
        )
        logger.experiment.add_image(f"confusion/{split}", picture, step, dataformats="HWC")


def parameters(config: TrainConfig, chosen: Iterable[str]) -> dict[str, Any]:
    """Return {option: plain value} of what compares runs."""
    flat = flatten(dataclasses.asdict(config))
    named = [override.lstrip("+").partition("=")[0] for override in chosen]
    keys = [*ALWAYS, *sorted(key for key in named if key in flat and key not in ALWAYS)]
    plain = int | float | str  # bool is an int
    return {key: flat[key] if isinstance(flat[key], plain) else str(flat[key]) for key in keys}


def log_graph(logger: Any, net: torch.nn.Module, image: Tensor) -> None:
    """Show the network's graph, traced on a photo uint8 (3, h, w); the network stays as it is."""
    training = net.training
    with torch.random.fork_rng(devices=[]), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # add_graph's way of tracing
        logger.experiment.add_graph(net.eval(), image[None].to(next(net.parameters()).device))
    net.train(training)


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
        assert isinstance(trainer.logger, Curves)
        writer = trainer.logger.experiment
        for name, parameter in pl_module.named_parameters():
            writer.add_histogram(f"weights/{name}", parameter.detach().float(), step)
            if parameter.grad is not None and parameter.grad.isfinite().all():
                writer.add_histogram(f"gradients/{name}", parameter.grad.float(), step)
