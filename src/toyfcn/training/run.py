"""A training from its typed config: build the parts by plain calls, fit, score, write the files."""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping, EMAWeightAveraging
from torch import Tensor
from torch.utils import deterministic

from toyfcn import hardware
from toyfcn.cli.launch import overrides
from toyfcn.commands import report
from toyfcn.commands.eval import score, warn_of_trained
from toyfcn.config.commands import TrainConfig
from toyfcn.config.trainer import PRECISIONS
from toyfcn.data.class_weights import cached_counts, class_weights, listed_weights
from toyfcn.data.datamodule import SegmentationData, open_source
from toyfcn.data.overlap import identities
from toyfcn.data.sampler import Key
from toyfcn.data.voc import Source
from toyfcn.evaluation import pictures
from toyfcn.evaluation.test_scorings import note_scoring
from toyfcn.runs import checkpoint, checkpointing, resume
from toyfcn.runs.interrupt import Interruption
from toyfcn.runs.record import RunRecord, write_json
from toyfcn.sweep.search import open_pruning
from toyfcn.training import device, tensorboard
from toyfcn.training.callbacks import (
    Histograms,
    HistoryWriter,
    LastValidation,
    PredictionPanels,
    ProgressBar,
    ThroughputMonitor,
    panels,
)
from toyfcn.training.distributed import Processes, strategy, synchronised
from toyfcn.training.initial_weights import bring_weights, score_first
from toyfcn.training.nonfinite_loss import FiniteLoss
from toyfcn.training.profile import StepProfile
from toyfcn.training.task import SegmentationTask

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """What a training is made of."""

    source: Source
    data: SegmentationData
    train_ids: tuple[str, ...]
    net: checkpoint.Network
    task: SegmentationTask
    start: checkpoint.Checkpoint | None  # of ckpt=
    class_weights: Tensor | None  # (C,) in the loss
    steps: int  # of the FCN's training
    epoch_steps: int  # of one pass over the images


def fit_and_score(
    config: TrainConfig,
    folder: Path,
    record: RunRecord | None,
    interruption: Interruption,
    processes: Processes,
) -> dict[str, Any]:
    """Fit a network, score its best checkpoint, and write both down; return metrics.json.

    Of several processes only the first has a ``record``, scores and writes.
    """
    device.refuse_missing_gpu(config.trainer)
    device.keep_memory(config.trainer)
    device.settle_threads(config.trainer)
    pl.seed_everything(config.seed, verbose=False)
    # filling fresh memory is a debugging aid of the deterministic mode, and not free
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # added as it runs

    parts = build(config)
    resumed_at = starting_point(config, folder, parts, processes)
    keep = checkpointing.RunCheckpoints(
        folder / "checkpoints",
        {"config": resume.fingerprint(config), "ids": checkpointing.digest(parts.train_ids)},
        interruption,
        config.trainer.save_every,
        stop_on_failure=config.trainer.save_failed == "stop",
    )
    logger, monitor = tensorboard.Curves(folder, resumed_at), ThroughputMonitor()
    trainer = make_trainer(config, folder, parts, processes, logger, monitor, keep)
    if resumed_at is None and trainer.is_global_zero:
        logger.attempt(lambda: tensorboard.log_config(logger, config))
        if config.logger.graph:
            photos = parts.data.scoring_loader(config.data.train_split).dataset
            tensorboard.log_graph(logger, parts.net, photos[Key(0, 0)][0])
    size = f"{len(parts.train_ids)} images, {sum(p.numel() for p in parts.net.parameters())}"
    log.info("%s: %s parameters, in %s", parts.source.name, size, folder)

    processes.start(config, folder)
    keep.fit(trainer, parts.task, parts.data, resumed=resumed_at is not None)
    processes.leave()
    parts.data.trainer = None  # of which a loader would take a process's share
    if record is None:
        return {}
    log.info("trained %d steps in %.0f s, validations apart", parts.steps, monitor.seconds)
    metrics = score_best(config, folder, parts, keep.best, logger)
    record.update(
        "finished",
        steps=trainer.global_step,
        train_s=round(monitor.seconds, 2),
        images_per_s=round(monitor.images_per_second, 1),
    )
    report.print_scores(metrics)
    print(f"run folder:   {folder}\npictures:     {folder / 'predictions.png'}")
    print(f"curves:       tensorboard --logdir {shlex.quote(str(folder / 'tensorboard'))}")
    return metrics


def build(config: TrainConfig) -> Parts:
    """Make data, network and task.

    Raises:
        ValueError: data that cannot be read, or options that do not fit them.
    """
    start = checkpoint.load(config.ckpt) if config.ckpt else None
    source = open_source(config.data)
    data = SegmentationData(source, config.data, config.model.short_side, config.seed)
    data.setup()
    on_cpu = config.trainer.accelerator == "cpu" or not torch.cuda.is_available()
    if config.data.device_transforms and on_cpu:
        log.warning(
            "data.device_transforms=true gains nothing on the CPU: data.workers would do the same "
            "work beside the training"
        )
    train_ids = data.split_ids(config.data.train_split)
    weights = loss_weights(config, source, train_ids)

    trained_on = set(identities(source, train_ids))
    if start is not None:
        for split in filter(None, (config.data.val_split, config.data.test_split)):
            warn_of_trained(start, data, split)
        trained_on.update(start.card.get("trained_on", ()))

    epoch_steps = -(-len(train_ids) // config.data.batch_size)
    budgets = (config.trainer.max_steps, config.trainer.max_epochs * epoch_steps)
    steps = min(budget for budget in budgets if budget > 0) - config.recipe.pretrain_steps
    if steps < 1:
        raise ValueError(
            f"recipe.pretrain_steps={config.recipe.pretrain_steps} leaves no steps of "
            f"trainer.max_steps={config.trainer.max_steps} to train the FCN"
        )
    net = checkpoint.build(config.model, len(source.classes))
    task = SegmentationTask(
        net,
        config.recipe,
        checkpoint.make_card(config, source, trained_on),
        weights,
        total_steps=steps,
        seed=config.seed,
        fused=config.trainer.fused,
    )
    return Parts(source, data, train_ids, net, task, start, weights, steps, epoch_steps)


def loss_weights(config: TrainConfig, source: Source, ids: tuple[str, ...]) -> Tensor | None:
    """Return the recipe's class weights, float (C,), or None for all alike."""
    kind = config.recipe.class_weights
    if kind == "none":
        return None
    if isinstance(kind, list):
        return listed_weights(kind, source.classes)
    return class_weights(cached_counts(source, ids, Path(config.data.cache_folder)), kind)


def starting_point(
    config: TrainConfig, folder: Path, parts: Parts, processes: Processes
) -> int | None:
    """Return the step of last.ckpt where the folder's run goes on; else bring the weights.

    What another run has left in the folder is removed.
    """
    last, data = folder / "checkpoints" / "last.ckpt", parts.data
    if config.resume is not None and last.exists():
        ids = checkpointing.digest(parts.train_ids)
        content = checkpointing.read(last, resume.fingerprint(config), ids, parts.steps)
        data.start = int(content[checkpointing.KEY]["step"])
        log.info("going on at step %d", data.start)
        return data.start
    if processes.first:  # the others are given its weights
        last.unlink(missing_ok=True)  # of a run that this one replaces
        tensorboard.remove_events(folder)
        brought = bring_weights(config, parts.net, parts.start, data, parts.class_weights)
        if brought and config.data.val_split:
            score_first(parts.net, config, parts.task.metadata, data)
    return None


def make_trainer(
    config: TrainConfig,
    folder: Path,
    parts: Parts,
    processes: Processes,
    logger: tensorboard.Curves,
    monitor: ThroughputMonitor,
    keep: checkpointing.RunCheckpoints,
) -> pl.Trainer:
    """Return Lightning's trainer with all callbacks."""
    if config.trainer.compile:
        device.compile_trunk(parts.net.trunk, config.trainer.accelerator)
    callbacks = make_callbacks(config, folder, parts.data, processes, monitor)
    profiled = config.trainer.profile and processes.first
    precision = config.trainer.precision
    assert precision in PRECISIONS
    return pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.nodes,
        strategy=strategy(config),
        sync_batchnorm=synchronised(config),
        precision=precision,
        max_steps=parts.steps,
        max_epochs=-(-parts.steps // parts.epoch_steps),
        val_check_interval=config.trainer.val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=None if config.data.val_split else 0,
        gradient_clip_val=config.recipe.clip,
        deterministic=config.trainer.deterministic,
        benchmark=False,
        logger=logger,
        log_every_n_steps=config.logger.every,
        callbacks=[*callbacks, keep],
        plugins=checkpointing.AtomicIO(),
        profiler=StepProfile(folder / "profile") if profiled else None,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_progress_bar=any(isinstance(c, ProgressBar) for c in callbacks),
    )


def make_callbacks(
    config: TrainConfig,
    folder: Path,
    data: SegmentationData,
    processes: Processes,
    monitor: ThroughputMonitor,
) -> list[Callback]:
    """Return all callbacks but the keeper of checkpoints, in the order in which they act."""
    nonfinite = f"nonfinite{processes.rank or ''}.pt"
    callbacks: list[Callback] = [FiniteLoss(folder, nonfinite), LastValidation()]
    if config.logger.panels:
        callbacks.append(
            PredictionPanels(data, config.logger.panels)
        )  # before averaged weights are put away
    if config.recipe.average is not None:
        place = hardware.device(config.trainer.accelerator)  # where the network comes to
        callbacks.append(EMAWeightAveraging(device=place, decay=config.recipe.average))
    if config.trainer.patience is not None:
        stop = EarlyStopping("val/miou", mode="max", patience=config.trainer.patience)
        callbacks.append(stop)
    if config.logger.histograms:
        callbacks.append(Histograms(config.trainer.val_every))
    history = folder / "history.csv"
    if config.resume is None and processes.first:
        history.unlink(missing_ok=True)
    callbacks.append(
        HistoryWriter(history, config.optimized_metric, open_pruning(folder, config.sweep))
    )
    callbacks.append(monitor)  # after the panels, so that its clock leaves their time out
    if config.trainer.progress and sys.stdout.isatty():
        callbacks.append(ProgressBar(monitor, config.logger.every))
    return callbacks


def score_best(
    config: TrainConfig, folder: Path, parts: Parts, best: Path, logger: tensorboard.Curves
) -> dict[str, Any]:
    """Score the best checkpoint, read back from its file as toyfcn-eval does.

    Writes metrics.json, predictions.png and the last of the curves; returns the metrics.
    """
    chosen, data, source = checkpoint.load(best), parts.data, parts.source
    metrics: dict[str, Any] = {"val": None, "test": None}
    matrices = {}
    for split, name in (("val", config.data.val_split), ("test", config.data.test_split)):
        if name is not None:
            metrics[split], matrices[split] = score(chosen, data, name, config.trainer)
            note_scoring(folder, best, config.data, name, metrics[split])
    write_json(folder / "metrics.json", metrics)
    swept = overrides()
    logger.attempt(
        lambda: tensorboard.log_results(logger, config, swept, metrics, matrices, parts.steps)
    )
    logger.finalize("success")
    which = "val" if config.data.test_split is None else "test"
    shown, found = getattr(config.data, f"{which}_split"), metrics[which]
    title = f"{source.name}, {shown}: mean IU {found['miou']:.3f}"
    rows = panels(chosen.net, data, shown, 6)
    pictures.sheet(rows, source.classes, source.palette, title).save(folder / "predictions.png")
    return metrics
