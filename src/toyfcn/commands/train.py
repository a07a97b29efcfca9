"""toyfcn-train: fit a network, score its best checkpoint, leave a folder that tells it all."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from toyfcn.cli.garbage import loading
from toyfcn.cli.launch import in_sweep, launch, run_folder
from toyfcn.config.commands import TrainConfig
from toyfcn.runs import failures, rerun, resume
from toyfcn.runs.interrupt import Interrupted, Interruption
from toyfcn.runs.record import Pruned
from toyfcn.training.distributed import Processes, refuse_scattered
from toyfcn.training.distributed import rank as rank_of

log = logging.getLogger(__name__)


def main() -> None:
    """Start the command."""
    launch("toyfcn-train", "train", train, lambda words: resume.settle(rerun.settle(words)))


def train(config: TrainConfig) -> float:
    """Run one training from its config; return the optimised metric, so that sweeps work."""
    from toyfcn.runs.record import RunRecord, read_run

    folder = run_folder()
    refuse_launcher()
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
        with loading():  # it writes PyTorch's version and devices down
            record = RunRecord(folder, config.seed, before)
        if config.rerun is not None:
            rerun.warn_of_changes(read_run(Path(config.rerun)), record.content)
        try:
            with loading():
                from toyfcn.training.run import fit_and_score
            with Processes(config.trainer) as processes:
                metrics = fit_and_score(config, folder, record, interruption, processes)
        except Interrupted as error:
            record.update("interrupted", error=str(error))
            if not in_sweep():  # which says itself how it goes on
                told = f"{error}; go on with: {resume.command(folder)}"
                print(f"toyfcn-train: {told}", file=sys.stderr)
            raise
        except BaseException as error:
            record.update(how_it_ended(error), error=f"{type(error).__name__}: {error}")
            raise failures.told(error) or error from None
        if config.rerun is not None:
            difference = rerun.first_difference(Path(config.rerun), folder)
            print(f"repeats {config.rerun}: {difference or 'the same, bit for bit'}")
            if difference:
                sys.exit(1)
        return optimised(config, metrics)


def refuse_launcher() -> None:
    """See that a launcher has a sweep to launch.

    Raises:
        ValueError: it has none, and this run would not go where it was meant to.
    """
    launcher = HydraConfig.get().runtime.choices["hydra/launcher"]
    if launcher != "basic" and not in_sweep():
        raise ValueError(
            f"launcher={launcher} starts the jobs of a sweep: add -m (for a single run, too), or "
            "leave it out"
        )


def train_along(config: TrainConfig, folder: Path) -> None:
    """Train as one of several processes that is not the first: it says and writes nothing."""
    with loading():
        from toyfcn.training.run import fit_and_score
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
    return "pruned" if isinstance(error, Pruned) else "failed"
