"""toyfcn-train: fit a network, score its best checkpoint, leave a folder that tells it all."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from toyfcn import faults, rerun, resume
from toyfcn.command import launch, overrides, run_folder
from toyfcn.config import TrainConfig
from toyfcn.interrupt import Interrupted, Interruption
from toyfcn.processes import Processes, refuse_scattered, strategy, synchronised
from toyfcn.processes import rank as rank_of

log = logging.getLogger(__name__)


def main() -> None:
    """Start the command."""
    launch("toyfcn-train", "train", train, lambda words: resume.settle(rerun.settle(words)))


def train(config: TrainConfig) -> float:
    """Run one training from its config; return the optimised metric, so that sweeps work."""
    from toyfcn.record import RunRecord, read_run

    folder = run_folder()
    config, before = resume.settled(config, folder)
    if config.rerun is not None and config.resume is None:
        config = rerun.settled(config, folder)
    refuse_scattered(config.trainer)
    if rank_of(config.trainer):  # SLURM, torchrun or another machine has the first process
        train_along(config, folder)
        return 0.0
    with resume.locked(folder), Interruption() as interruption:
        if before.get("status") == "finished":
            log.info("%s has finished already", folder)
            return optimised(config, resume.read_json(folder / "metrics.json"))
        record = RunRecord(folder, config.seed, before)
        if config.rerun is not None:
            rerun.warn_of_changes(read_run(Path(config.rerun)), record.content)
        try:
            with Processes(config.trainer) as processes:
                metrics = fit_and_score(config, folder, record, interruption, processes)
        except Interrupted as error:
            record.update("interrupted", error=str(error))
            print(f"toyfcn-train: {error}; go on with: {resume.command(folder)}", file=sys.stderr)
            raise
        except BaseException as error:
            record.update(how_it_ended(error), error=f"{type(error).__name__}: {error}")
            raise faults.told(error) or error from None
        if config.rerun is not None:
            difference = rerun.first_difference(Path(config.rerun), folder)
            print(f"repeats {config.rerun}: {difference or 'the same, bit for bit'}")
            if difference:
                sys.exit(1)
        return optimised(config, metrics)


def train_along(config: TrainConfig, folder: Path) -> None:
    """Train as one of several processes that is not the first: it says and writes nothing."""
    logging.disable(logging.WARNING)
    config.trainer.progress, config.sweep.trial = False, None
    with Interruption() as interruption, Processes(config.trainer) as processes:
        fit_and_score(config, folder, None, interruption, processes)


def optimised(config: TrainConfig, metrics: dict[str, Any]) -> float:
    """Return the figure that a sweep looks at."""
    split, _, key = config.optimized_metric.partition(".")
    if not isinstance((metrics.get(split) or {}).get(key), float):
        raise ValueError(f"optimized_metric={config.optimized_metric} is no figure of metrics.json")
    return float(metrics[split][key])


def how_it_ended(error: BaseException) -> str:
    """Return the status of a run that an exception ended."""
    if isinstance(error, Interrupted):
        return "interrupted"
    return "pruned" if type(error).__name__ == "TrialPruned" else "failed"


def fit_and_score(
    config: TrainConfig,
    folder: Path,
    record: Any,
    interruption: Interruption,
    processes: Processes,
) -> dict[str, Any]:
    """Build data, network, task and trainer by plain calls; fit; score; write the files.

    Of several processes only the first has a ``record``, scores the best checkpoint and writes.
    """
    import pytorch_lightning as pl
    import torch

    from toyfcn import board, checkpoint, curves, keeper, report, visual
    from toyfcn.callbacks import panels
    from toyfcn.data.datamodule import SegmentationData, open_source
    from toyfcn.data.overlap import identities
    from toyfcn.data.schedule import Key
    from toyfcn.evaluate import score, warn_of_trained
    from toyfcn.profile import StepProfile
    from toyfcn.record import write_json
    from toyfcn.start import bring_weights, score_first
    from toyfcn.task import SegmentationTask

    if config.trainer.reuse_memory:
        reuse_memory()
    if config.trainer.threads:
        torch.set_num_threads(config.trainer.threads)
    elif config.trainer.devices > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // config.trainer.devices))
    pl.seed_everything(config.seed, verbose=False)

    # filling fresh memory is a debugging aid of the deterministic mode, and not free
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    start = checkpoint.load(config.ckpt) if config.ckpt else None

    # data
    source = open_source(config.data)
    data = SegmentationData(source, config.data, config.model.short_side, config.seed)
    data.setup()
    train_ids = data.split_ids(config.data.train_split)
    weights = loss_weights(config, source, train_ids)

    # network and task
    net = checkpoint.build(config.model, len(source.classes))
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
    task = SegmentationTask(
        net,
        config.recipe,
        checkpoint.make_card(config, source, trained_on),
        weights,
        total_steps=steps,
        seed=config.seed,
        fused=config.trainer.fused,
        flip_test=config.trainer.flip_test,
    )

    # where it starts: at the first step, or where the folder's last checkpoint says
    last, ids = folder / "checkpoints" / "last.ckpt", keeper.digest(train_ids)
    content = None
    if config.resume is not None and last.exists():
        content = keeper.read(last, resume.fingerprint(config), ids, steps)
        place = content[keeper.KEY]
        data.start = place["step"]
        if processes.first:
            curves.cut(folder / "tensorboard", place["step"], place["validated"])
        log.info("going on at step %d", data.start)
    elif processes.first:  # the others are given its weights
        last.unlink(missing_ok=True)  # of a run that this one replaces
        curves.cut(folder / "tensorboard", None)
        if bring_weights(config, net, start, data, weights) and config.data.val_split:
            score_first(net, config, task.card, data)

    # trainer
    if config.trainer.compile:
        compile_trunk(net.trunk, config.trainer.accelerator)
    keep = keeper.Keeper(
        last.parent,
        {"config": resume.fingerprint(config), "ids": ids},
        interruption,
        config.trainer.save_every,
        stop_on_failure=config.trainer.save_failed == "stop",
    )
    val_every = divisor_near(steps, config.trainer.val_every)
    callbacks, monitor = make_callbacks(config, data, folder, val_every, processes)
    logger = curves.Curves(folder)
    profiled = config.trainer.profile and processes.first
    profiler = StepProfile(folder / "profile", net.trunk) if profiled else None
    trainer = pl.Trainer(
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        num_nodes=config.trainer.nodes,
        strategy=strategy(config),
        sync_batchnorm=synchronised(config),
        precision=config.trainer.precision,  # type: ignore[arg-type]
        max_steps=steps,
        max_epochs=-(-steps // epoch_steps),
        val_check_interval=val_every,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        limit_val_batches=None if config.data.val_split else 0,
        gradient_clip_val=config.recipe.clip,
        deterministic=config.trainer.deterministic,
        benchmark=False,
        logger=logger,
        log_every_n_steps=config.logger.every,
        callbacks=[*callbacks, keep],
        plugins=keeper.AtomicIO(content),
        profiler=profiler,
        enable_model_summary=False,
        use_distributed_sampler=False,
        enable_progress_bar=any(isinstance(c, pl.callbacks.ProgressBar) for c in callbacks),
    )
    if content is None and trainer.is_global_zero:
        logger.attempt(lambda: board.log_config(logger, config))
        if config.logger.graph:
            photos = data.scoring_loader(config.data.train_split).dataset
            board.log_graph(logger, net, photos[Key(0, 0)][0])
    parameters = sum(p.numel() for p in net.parameters())
    log.info("%s: %d images, %d parameters, in %s", source.name, len(train_ids), parameters, folder)
    processes.start(config, folder)
    keep.fit(trainer, task, data, resumed=content is not None)
    processes.leave()
    data.trainer = None  # of which a loader would take a process's share
    if not processes.first:
        return {}
    log.info("trained %d steps in %.0f s, validations apart", steps, monitor.seconds)

    # scores of the best checkpoint, read back from its file as toyfcn-eval does
    chosen = checkpoint.load(keep.best)
    metrics: dict[str, Any] = {"val": None, "test": None}
    matrices = {}
    for split, name in (("val", config.data.val_split), ("test", config.data.test_split)):
        if name is not None:
            metrics[split], matrices[split] = score(chosen, data, name, config.trainer)
    write_json(folder / "metrics.json", metrics)
    chosen_here = overrides()
    logger.attempt(lambda: board.log_results(logger, config, chosen_here, metrics, matrices, steps))
    logger.finalize("success")
    which = "val" if config.data.test_split is None else "test"
    shown, found = getattr(config.data, f"{which}_split"), metrics[which]
    title = f"{source.name}, {shown}: mean IU {found['miou']:.3f}"
    rows = panels(chosen.net, data, shown, 6)
    visual.sheet(rows, source.classes, source.palette, title).save(folder / "predictions.png")
    record.update(
        "finished",
        steps=trainer.global_step,
        train_s=round(monitor.seconds, 2),
        images_per_s=round(monitor.images_per_second, 1),
    )

    report.print_scores(metrics)
    print(f"run folder:   {folder}\npictures:     {folder / 'predictions.png'}")
    print(f"curves:       tensorboard --logdir {folder / 'tensorboard'}")
    return metrics


def loss_weights(config: TrainConfig, source: Any, ids: tuple[str, ...]) -> Any:
    """Return the recipe's class weights, float (C,), or None for all alike."""
    from toyfcn.data.statistics import cached_counts, class_weights, listed_weights

    kind = config.recipe.class_weights
    if kind == "none":
        return None
    if isinstance(kind, list):
        return listed_weights(kind, source.classes)
    return class_weights(cached_counts(source, ids, Path(config.data.cache_folder)), kind)


def reuse_memory() -> None:
    """Tell glibc to keep freed memory: a step then spends no time in page faults."""
    import ctypes

    trim_threshold, mmap_threshold = -1, -3  # of mallopt(3)
    try:
        libc = ctypes.CDLL("libc.so.6")
        done = libc.mallopt(mmap_threshold, 1 << 30) and libc.mallopt(trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        done = 0
    if not done:
        log.warning("trainer.reuse_memory=true is ignored: this system's allocator has no mallopt")


def compile_trunk(trunk: Any, accelerator: str) -> None:
    """Compile a trunk in place for training; what cannot be compiled runs as it is, with a warning.

    Scoring is never compiled (see task.py): photos of all sizes, and figures that repeat.
    """
    import shutil

    import torch

    on_cpu = accelerator == "cpu" or not torch.cuda.is_available()
    if on_cpu and not any(map(shutil.which, ("c++", "g++", "clang++", "clang"))):
        log.warning("trainer.compile=true is ignored: compiling for a CPU needs g++ or clang")
        return
    torch._dynamo.config.suppress_errors = True  # a graph that fails is warned of, and runs eagerly
    trunk.compile(dynamic=False)


def divisor_near(steps: int, wanted: int) -> int:
    """Return the divisor of ``steps`` nearest to ``wanted``: validations end with the training."""
    divisors = [n for n in range(1, steps + 1) if steps % n == 0]
    return min(divisors, key=lambda n: (max(n / wanted, wanted / n), n))


def make_callbacks(
    config: TrainConfig, data: Any, folder: Path, val_every: int, processes: Processes
) -> tuple[list[Any], Any]:
    """Return all callbacks but the keeper of checkpoints, and among them the monitor."""
    from pytorch_lightning.callbacks import EarlyStopping, EMAWeightAveraging

    from toyfcn.board import Histograms
    from toyfcn.callbacks import History, Monitor, Panels, ProgressBar
    from toyfcn.finite import FiniteLoss
    from toyfcn.sweep.search import open_pruning

    monitor = Monitor()
    name = f"nonfinite{processes.rank or ''}.pt"
    callbacks: list[Any] = [FiniteLoss(folder, name)]
    if config.logger.panels:
        callbacks.append(Panels(data, config.logger.panels))  # before averaged weights are put away
    if config.recipe.average is not None:
        callbacks.append(EMAWeightAveraging(decay=config.recipe.average))
    if config.trainer.patience is not None:
        stop = EarlyStopping("val/miou", mode="max", patience=config.trainer.patience)
        callbacks.append(stop)
    if config.logger.histograms:
        callbacks.append(Histograms(val_every))
    history = folder / "history.csv"
    if config.resume is None and processes.first:
        history.unlink(missing_ok=True)
    callbacks.append(History(history, config.optimized_metric, open_pruning(folder, config.sweep)))
    callbacks.append(monitor)  # after the panels, so that its clock leaves their time out
    if config.trainer.progress and sys.stdout.isatty():
        callbacks.append(ProgressBar(monitor))
    return callbacks, monitor
