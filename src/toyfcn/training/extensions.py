"""Callbacks and metrics of the user's own, and settings of Lightning's Trainer: checked."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import (
    BatchSizeFinder,
    Callback,
    GradientAccumulationScheduler,
    LearningRateFinder,
    StochasticWeightAveraging,
    Timer,
)
from pytorch_lightning.utilities.seed import isolate_rng

from toyfcn.config.commands import TrainConfig
from toyfcn.config.target import make_all
from toyfcn.evaluation.own_metrics import OwnMetrics
from toyfcn.runs.checkpoint_io import refuse_unreadable

BY_OPTION = {  # settings of the Trainer that an option of ours makes
    "accelerator": "trainer.accelerator",
    "strategy": "trainer.devices",
    "devices": "trainer.devices",
    "num_nodes": "trainer.nodes",
    "precision": "trainer.precision",
    "logger": "logger.to",
    "callbacks": "trainer.callbacks",
    "max_epochs": "trainer.max_epochs",
    "max_steps": "trainer.max_steps",
    "val_check_interval": "trainer.val_every",
    "check_val_every_n_epoch": "trainer.val_every",
    "log_every_n_steps": "logger.every",
    "enable_checkpointing": "trainer.save_every",
    "enable_progress_bar": "trainer.progress",
    "gradient_clip_val": "recipe.clip",
    "deterministic": "trainer.deterministic",
    "profiler": "trainer.profile",
    "sync_batchnorm": "trainer.sync_batchnorm",
    "default_root_dir": "hydra.run.dir",
}
ACCUMULATE = (
    "a step is one batch, after which a run can be saved, and saving between the batches of one "
    "update would lose their gradients: raise data.batch_size"
)
TIME = "a budget is steps, never seconds, or a run would not repeat: set trainer.max_steps"
BREAKS = {  # what it would break, and what there is instead
    "accumulate_grad_batches": ACCUMULATE,
    "max_time": TIME,
    "fast_dev_run": "it saves and scores nothing: debug=fast runs everything once",
    "overfit_batches": "it leaves the sampler's order: debug=overfit trains on eight photos",
    "limit_train_batches": "a resumed run finds its place by whole epochs: data.limit trains on "
    "the first photos, trainer.max_steps for fewer steps",
    "reload_dataloaders_every_n_epochs": "a resumed run finds its place in one loader's order",
    "use_distributed_sampler": "the sampler shares batches out itself",
    "benchmark": "it picks operations by their time, and a run would not repeat",
    "plugins": "checkpoints are written by one, so that they appear whole",
    "barebones": "it saves and logs nothing",
    "enable_model_summary": "toyfcn-model prints more of a network",
    "limit_test_batches": "Lightning's test loop is not used: data.limit cuts the splits",
    "limit_predict_batches": "Lightning's prediction loop is not used",
    "model_registry": "it has no effect here",
}
CALLBACKS_THAT_BREAK: dict[type[Callback], str] = {
    GradientAccumulationScheduler: ACCUMULATE,
    Timer: TIME,
    StochasticWeightAveraging: "it changes the schedule and cannot be resumed: set recipe.average",
    BatchSizeFinder: "it trains before the training: set data.batch_size",
    LearningRateFinder: "it trains before the training: see debug=lr",
}


def own_callbacks(config: TrainConfig) -> list[Callback]:
    """Make the callbacks of trainer.callbacks.

    Raises:
        ValueError: one does not exist, cannot be made, or would break what a run promises.
    """
    found: list[Callback] = []
    with isolate_rng():  # what they draw changes no weight
        listed = make_all("trainer.callbacks", config.trainer.callbacks)
    for told, made in listed:
        if not isinstance(made, Callback):
            kind = type(made).__name__
            raise ValueError(f"{told} makes a {kind}, not a pytorch_lightning.Callback")
        for breaking, reason in CALLBACKS_THAT_BREAK.items():
            if isinstance(made, breaking):
                raise ValueError(f"{told} cannot be used: {reason}")
        refuse_unreadable({told: made.state_dict()})
        found.append(made)
    return found


def own_metrics(config: TrainConfig, classes: Sequence[str], void: int) -> OwnMetrics:
    """Make the metrics of trainer.metrics.

    Raises:
        ValueError: one cannot be made, or has no single figure to be the optimized_metric.
    """
    with isolate_rng():
        found = OwnMetrics(config.trainer.metrics, classes, void, config.trainer.processes)
    if (figure := config.monitored[0]) in found.by_class:
        raise ValueError(
            f"optimized_metric={config.optimized_metric}: {figure} is no single figure"
        )
    return found


def extra_settings(config: TrainConfig) -> dict[str, Any]:
    """Return the settings of trainer.extra.

    Raises:
        ValueError: the Trainer has no such setting, the value is of another type, or toyfcn sets it
            itself; the message says what to do.
    """
    extra: Mapping[str, Any] = config.trainer.extra or {}
    known = inspect.signature(pl.Trainer).parameters
    hints = typing.get_type_hints(pl.Trainer.__init__)
    for name, value in extra.items():
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 3)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            raise ValueError(f"trainer.extra: Lightning's Trainer has no {name}{hint}")
        if name in BY_OPTION:
            raise ValueError(f"trainer.extra: {name} is set by {BY_OPTION[name]}")
        if name in BREAKS:
            raise ValueError(f"trainer.extra: {name} cannot be set: {BREAKS[name]}")
        if not fits(value, hints.get(name, Any)):
            kind = str(known[name].annotation).replace("typing.", "")
            raise ValueError(f"trainer.extra: {name}={value} is not {kind}")
    if extra.get("gradient_clip_algorithm") not in (None, "norm", "value"):
        raise ValueError("trainer.extra: gradient_clip_algorithm is norm or value")
    if "gradient_clip_algorithm" in extra and config.recipe.clip is None:
        raise ValueError("trainer.extra: gradient_clip_algorithm needs recipe.clip, the bound")
    if not extra.get("limit_val_batches", True):
        raise ValueError("trainer.extra: limit_val_batches=0 is data.val_split=null")
    if "limit_val_batches" in extra and config.data.val_split is None:
        raise ValueError("trainer.extra: limit_val_batches needs a data.val_split")
    return dict(extra)


def fits(value: Any, hint: Any) -> bool:
    """Tell whether a plain value has a type; one that is no plain type takes any."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, kind) for kind in typing.get_args(hint))
    if hint is float:
        return type(value) in (int, float)
    return type(value) is hint if hint in (bool, int, str, type(None)) else True
