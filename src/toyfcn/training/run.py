"""A training from its typed config: data, network, task, trainer, fit, score. No Hydra in here."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Callback
from torch import Tensor

from toyfcn.config.commands import TrainConfig
from toyfcn.config.data import ShapesConfig
from toyfcn.data import preflight
from toyfcn.data.class_weights import loss_weights
from toyfcn.data.custom_transform import CustomTransform
from toyfcn.data.datamodule import SegmentationData
from toyfcn.data.datasets import open_source
from toyfcn.data.overlap import identities
from toyfcn.data.sampler import Key
from toyfcn.evaluation.score_table import print_scores
from toyfcn.files import read_json
from toyfcn.models.build import Network, build_network
from toyfcn.runs import checkpoint, checkpointing, failures, rerun
from toyfcn.runs.failures import optional
from toyfcn.runs.interrupt import Interrupted, Interruption
from toyfcn.runs.record import RunRecord
from toyfcn.runs.resume import digest, fingerprint, resolve, trusted_packages
from toyfcn.runs.run import Run, read_run
from toyfcn.runs.score_checkpoint import warn_of_trained
from toyfcn.training import callbacks, device, distributed, extensions, loggers, tensorboard
from toyfcn.training.best_scores import score_best
from toyfcn.training.initial_weights import bring_weights, score_first
from toyfcn.training.lr_range import run_range_test, write_range
from toyfcn.training.run_logger import RunLogger
from toyfcn.training.smallest_batch import refuse_too_small
from toyfcn.training.task import SegmentationTask
from toyfcn.training.trainer import make_trainer

log = logging.getLogger(__name__)
Metrics = dict[str, Any]  # the content of metrics.json: {"val": {…} or None, "test": {…} or None}


def train(config: TrainConfig, run: Run) -> Metrics:
    """Train a network, score its best checkpoint and write both into the run's folder.

    ``config.resume`` continues a run in its folder, ``config.rerun`` repeats one in ``run``'s.
    Returns the content of metrics.json.

    Raises:
        ValueError: options, data or files that do not fit; the message names them.
        Interrupted: a signal has ended the run, which was saved.
    """
    config, run = resolve(config, run)
    config.logger.refuse_missing_packages()
    distributed.check(config.trainer, run)
    if config.trainer.processes > 1 and not distributed.started_elsewhere():
        return distributed.launch(train_here, config, run)
    return train_here(config, run)


def train_here(config: TrainConfig, run: Run) -> Metrics:
    """Train in this process, which may be one of several: only the first writes the run's files."""
    if distributed.rank(config.trainer):
        return train_along(config, run)
    with run.locked():
        run.refuse_replacing()
        before = read_run(run.folder) if run.resumed else {}
        if before.get("status") == "finished":
            log.info("%s has finished already", run.folder)
            return read_json(run.metrics)
        if not run.resumed:
            run.store(config)
        with run.logged(), Interruption() as interruption:
            record = RunRecord(run.folder, config, before)
            if before:
                session = record.content["resumed"][-1]
                rerun.warn_of_changes(before, session, ("versions", "hardware"))
            if config.rerun is not None:
                rerun.warn_of_changes(read_run(Path(config.rerun)), record.content)
            try:
                metrics = fit_and_score(config, run, record, interruption)
            except BaseException as error:
                record.ended_by(error)
                if isinstance(error, Interrupted) and not run.in_sweep:  # which says it itself
                    told = f"toyfcn-train: {error}; resume with: {run.resume_command}"
                    print(told, file=sys.stderr)
                raise failures.told(error) or error from None
        if config.rerun is not None:
            difference = rerun.first_difference(
                Path(config.rerun), run.folder, trusted_packages(config)
            )
            print(f"repeats {config.rerun}: {difference or 'the same, bit for bit'}")
            if difference:
                sys.exit(1)
        return metrics


def train_along(config: TrainConfig, run: Run) -> Metrics:
    """Train as one of several processes that is not the first: it prints and writes nothing."""
    logging.disable(logging.WARNING)
    config.trainer.progress = False
    with Interruption() as interruption:
        return fit_and_score(config, run, None, interruption)


def fit_and_score(
    config: TrainConfig, run: Run, record: RunRecord | None, interruption: Interruption
) -> Metrics:
    """Fit a network, score its best checkpoint, and write both down; return metrics.json.

    Of several processes only the first has a ``record``, scores and writes.
    """
    device.prepare(config.trainer)
    pl.seed_everything(config.seed, verbose=False)

    parts = build(config)
    place = {"config": fingerprint(config), "ids": digest(parts.train_ids)}
    save = checkpointing.RunCheckpoints(
        run.last_checkpoint.parent,
        place,
        interruption,
        watched=config.monitored,
        every=config.trainer.save_every,
        stop_on_failure=config.trainer.save_failed == "stop",
    )
    step = starting_point(config, run, parts, place)
    if config.trainer.lr_range is not None and record is not None:
        write_range(run_range_test(config, parts.task, parts.data), run.folder)
        record.update("finished")
        return {}
    if record is None:
        fit(config, run, parts, save, step, [])
        return {}
    with loggers.opened(config, run, step) as found:
        trainer, monitor = fit(config, run, parts, save, step, found)
        steps = trainer.global_step  # fewer than asked for where trainer.patience was at its end
        log.info("trained %d steps in %.0f s, validations apart", steps, monitor.seconds)
        metrics = score_best(config, run, parts.data, found, steps)
    record.update(
        "finished",
        steps=steps,
        train_s=round(monitor.seconds, 2),
        images_per_s=round(monitor.images_per_second, 1),
    )
    with optional("the table of scores"):
        print_scores(metrics)
    print(f"run folder:   {run.folder}\npictures:     {run.folder / 'predictions.png'}")
    for logger in found:
        print(f"curves:       {logger.told}")
    return metrics


def fit(
    config: TrainConfig,
    run: Run,
    parts: Parts,
    save: checkpointing.RunCheckpoints,
    step: int | None,
    found: Sequence[RunLogger],
) -> tuple[pl.Trainer, callbacks.ThroughputMonitor]:
    """Fit the network, resuming at ``step`` unless that is None, with the loggers ``found``."""
    monitor = callbacks.ThroughputMonitor()
    trainer = make_trainer(
        *(config, run, parts.data, parts.steps, parts.epoch_steps, found, monitor, save),
        *(parts.callbacks, parts.extra),
    )
    for logger in found:
        logger.attempt(logger.put_config, dataclasses.asdict(config))
        if config.logger.graph and isinstance(logger, tensorboard.Curves) and step is None:
            photos = parts.data.scoring_loader(config.data.train_split).dataset
            with optional("the network's graph in TensorBoard"):
                tensorboard.log_graph(logger, parts.net, photos[Key(0, 0)][0])
    if config.trainer.compile:  # behind the graph, for which nothing compiled can be traced
        one_size = config.data.crop is not None or isinstance(config.data, ShapesConfig)
        device.compile_backbone(parts.net.backbone, config.trainer.accelerator, one_size)
    log.info(
        "%s: %d images, %d parameters, %d steps (trainer.max_steps), in %s",
        parts.data.source.name,
        len(parts.train_ids),
        sum(p.numel() for p in parts.net.parameters()),
        parts.steps,
        run.folder,
    )
    if config.trainer.precision == "64-true":
        parts.task.double()  # Lightning does so too, but only once it has read last.ckpt
    save.fit(trainer, parts.task, parts.data, resumed=step is not None)
    distributed.leave()
    parts.data.trainer = None  # of which a loader would take a process's share
    return trainer, monitor


@dataclass(frozen=True)
class Parts:
    """What a training is made of."""

    data: SegmentationData
    train_ids: tuple[str, ...]
    net: Network
    task: SegmentationTask
    start: checkpoint.Checkpoint | None  # of ckpt=
    class_weights: Tensor | None  # (C,) in the loss
    steps: int  # of the FCN's training
    epoch_steps: int  # of one pass over the images
    callbacks: list[Callback]  # of trainer.callbacks
    extra: dict[str, Any]  # of trainer.extra


def build(config: TrainConfig) -> Parts:
    """Make data, network and task.

    Raises:
        ValueError: data that cannot be read, or options that do not fit them.
    """
    own, extra = extensions.own_callbacks(config), extensions.extra_settings(config)
    start = checkpoint.load(config.ckpt, config.trust) if config.ckpt else None
    source = open_source(config.data)
    data = SegmentationData(source, config.data, config.model.short_side, config.seed)
    data.setup()
    train_ids = data.split_ids(config.data.train_split)
    preflight.check(source, itertools.chain(*data.ids.values()))
    if isinstance(transform := data.train_transform(), CustomTransform):
        transform(*source.pair(train_ids[0]), seed=0)
    preflight.refuse_void_only(source, data.ids, config.data.train_split)
    weights = loss_weights(
        config.recipe.class_weights, source, train_ids, Path(config.data.cache_folder)
    )
    trained_on = set(identities(source, train_ids))
    if start is not None:
        for split in filter(None, (config.data.val_split, config.data.test_split)):
            warn_of_trained(start, data, split)
        trained_on.update(start.metadata.get("trained_on", ()))

    epoch_steps = -(-len(train_ids) // config.data.batch_size)
    net = build_network(config.model, len(source.classes), source.channels)
    if data.statistics is not None:
        net.normalize.use(*data.statistics)
    refuse_too_small(config, net, data)
    steps = total_steps(config, epoch_steps)
    task = SegmentationTask(
        net,
        source.classes,
        config.recipe,
        void=source.void,
        class_weights=weights,
        total_steps=steps,
        seed=config.seed,
        fused=config.trainer.fused,
        keep_features=config.data.cache == "features",
        watched=config.monitored[0],
        metadata=checkpoint.make_metadata(config, source, trained_on),
        own=extensions.own_metrics(config, source.classes, source.void),
    )
    return Parts(data, train_ids, net, task, start, weights, steps, epoch_steps, own, extra)


def total_steps(config: TrainConfig, epoch_steps: int) -> int:
    """Return how many steps the FCN trains.

    Raises:
        ValueError: the classifier's training leaves none.
    """
    budgets = (config.trainer.max_steps, config.trainer.max_epochs * epoch_steps)
    steps = min(budget for budget in budgets if budget > 0) - config.recipe.pretrain_steps
    if steps < 1:
        raise ValueError(
            f"recipe.pretrain_steps={config.recipe.pretrain_steps} leaves no steps of "
            f"trainer.max_steps={config.trainer.max_steps} to train the FCN"
        )
    return steps


def starting_point(
    config: TrainConfig, run: Run, parts: Parts, place: dict[str, Any]
) -> int | None:
    """Return the step that the run goes on from; None: it begins, and the weights are brought."""
    if run.resumed and run.last_checkpoint.exists():
        content = checkpointing.read(
            run.last_checkpoint, place["config"], place["ids"], parts.steps
        )
        saved = content[checkpointing.KEY]
        parts.data.start = saved["step"]
        log.info("resuming at step %d", parts.data.start)
        return parts.data.start
    if distributed.rank(config.trainer) == 0:  # the others are given its weights
        tensorboard.remove_events(run.folder)  # of a run that failed here before
        brought = bring_weights(config, parts.net, parts.start, parts.data, parts.class_weights)
        if brought and brought.scores and config.data.val_split:
            score_first(parts.net, config, parts.data)
    return None
