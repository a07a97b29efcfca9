"""Lightning's trainer of a config: precision, processes, validations, callbacks."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import Logger

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.config.trainer import PRECISIONS
from toyfcn.data.datamodule import SegmentationData
from toyfcn.runs.checkpoint_io import AtomicIO
from toyfcn.runs.run import Run
from toyfcn.text import first_line
from toyfcn.training import callbacks, distributed
from toyfcn.training.nonfinite_loss import FiniteLoss
from toyfcn.training.profile import StepProfile


def make_trainer(
    config: TrainConfig,
    run: Run,
    data: SegmentationData,
    steps: int,
    epoch_steps: int,
    loggers: Sequence[Logger],
    monitor: callbacks.ThroughputMonitor,
    save: Callback,
    own: Sequence[Callback] = (),
    extra: Mapping[str, Any] | None = None,
) -> pl.Trainer:
    """Return Lightning's trainer with all callbacks, in the order in which they act.

    ``steps`` is the length of the training, ``epoch_steps`` that of one pass over the photos;
    ``own`` and ``extra`` are trainer.callbacks and trainer.extra, made and checked.

    Raises:
        ValueError: Lightning refuses these two.
    """
    trainer, precision = config.trainer, config.trainer.precision
    assert precision in PRECISIONS
    acting = make_callbacks(config, run, data, monitor)
    profiled = trainer.profile and distributed.rank(trainer) == 0
    settings: dict[str, Any] = {
        "accelerator": trainer.accelerator,
        "devices": trainer.devices,
        "num_nodes": trainer.nodes,
        "strategy": distributed.strategy(config),
        "sync_batchnorm": distributed.synchronized(
            config, len(data.split_ids(config.data.train_split))
        ),
        "precision": precision,
        "max_steps": steps,
        "max_epochs": -(-steps // epoch_steps),
        "val_check_interval": trainer.val_every,
        "check_val_every_n_epoch": None,
        "num_sanity_val_steps": 0,
        "limit_val_batches": None if config.data.val_split else 0,
        "gradient_clip_val": config.recipe.clip,
        "deterministic": trainer.deterministic,
        "benchmark": False,
        "logger": [*loggers],
        "log_every_n_steps": config.logger.every,
        "callbacks": [*acting, *own, save],
        "default_root_dir": run.folder,
        "plugins": AtomicIO(),
        "profiler": StepProfile(run.folder / "profile") if profiled else None,
        "enable_model_summary": False,
        "use_distributed_sampler": False,
        "enable_progress_bar": any(isinstance(c, callbacks.ProgressBar) for c in acting),
    }
    try:
        return pl.Trainer(**settings | dict(extra or {}))
    except (MisconfigurationException, RuntimeError) as error:
        if not own and not extra:
            raise
        raise ValueError(f"trainer.callbacks or trainer.extra: {first_line(error)}") from error


def make_callbacks(
    config: TrainConfig, run: Run, data: SegmentationData, monitor: callbacks.ThroughputMonitor
) -> list[Callback]:
    """Return all callbacks but the one that saves checkpoints."""
    number = distributed.rank(config.trainer)
    found: list[Callback] = [FiniteLoss(run.folder, f"nonfinite{number or ''}.pt")]
    found.append(callbacks.LastValidation())
    found.append(distributed.AbortOnFailure())
    if config.logger.panels and config.logger.to:
        found.append(callbacks.PredictionPanels(data, config.logger.panels))  # of averaged weights
    if config.recipe.average is not None:
        place = hardware.device(config.trainer.accelerator)  # where the network comes to
        found.append(callbacks.MovingAverage(config.recipe.average, place))
    if config.trainer.patience is not None:
        figure, lower = config.monitored
        patience, mode = config.trainer.patience, "min" if lower else "max"
        # a mean IU that does not exist, of void alone, is no improvement and no error
        found.append(
            EarlyStopping(f"val/{figure}", mode=mode, patience=patience, check_finite=False)
        )
    if config.logger.histograms:
        found.append(callbacks.Histograms(config.trainer.val_every))
    history = run.folder / "history.csv"
    if not run.resumed and number == 0:
        history.unlink(missing_ok=True)
    found.append(callbacks.HistoryWriter(history, config.monitored[0], run.pruner))
    found.append(monitor)  # after the panels, so that its clock leaves their time out
    if config.trainer.progress and sys.stdout.isatty():
        found.append(callbacks.ProgressBar(monitor, config.logger.every))
    return found
