"""Several processes that train together (trainer=ddp): which one this is, and how the others start.

The first process does everything. The others get its config, know nothing of Hydra, train along and
write no file. SLURM, torchrun or another machine may start them too; then each runs toyfcn-train.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig

from toyfcn.cli.launch import in_sweep
from toyfcn.config.commands import TrainConfig
from toyfcn.config.trainer import TrainerConfig

log = logging.getLogger(__name__)

FOLLOW = "from toyfcn.processes import follow; follow()"
NAMES = ("LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")  # of what Lightning reads in the environment


def rank(trainer: TrainerConfig) -> int:
    """Return the number of this process among all that train together, the first being 0."""
    if trainer.devices * trainer.nodes == 1:
        return 0
    if "RANK" in os.environ:  # torchrun's
        return int(os.environ["RANK"])
    if by_slurm():
        return int(os.environ["SLURM_PROCID"])
    node, local = (int(os.environ.get(name, 0)) for name in ("NODE_RANK", "LOCAL_RANK"))
    return node * trainer.devices + local


def by_slurm() -> bool:
    """Tell whether srun has started this process, and the others with it, as Lightning sees it."""
    by_hand = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return "SLURM_NTASKS" in os.environ and not by_hand


def refuse_scattered(trainer: TrainerConfig) -> None:
    """See that processes which Hydra starts in, each by itself, work in one folder.

    Raises:
        ValueError: each would have a folder of its own.
    """
    alone = trainer.nodes == 1 and not started_elsewhere()
    if trainer.devices * trainer.nodes == 1 or alone or in_sweep():
        return
    if not any(item.startswith("hydra.run.dir=") for item in HydraConfig.get().overrides.hydra):
        raise ValueError("several processes need one folder: set hydra.run.dir=FOLDER for all")


def started_elsewhere() -> bool:
    """Tell whether srun or torchrun start a process for each device themselves."""
    return "LOCAL_RANK" in os.environ or by_slurm()


class Processes:
    """The processes of one training, as one of them sees it; a context manager that ends them all.

    Raises:
        ValueError: there are not so many GPUs, or nothing says where the first machine is.
    """

    def __init__(self, trainer: TrainerConfig) -> None:
        self.trainer, self.rank = trainer, rank(trainer)
        self.count = trainer.devices * trainer.nodes
        self.others: list[subprocess.Popen[str]] = []
        self.before = {name: os.environ.get(name) for name in NAMES}
        self.started = started_elsewhere()

    @property
    def first(self) -> bool:
        """Whether this is the process that writes the run's files."""
        return self.rank == 0

    def __enter__(self) -> Processes:
        if self.count == 1:
            return self
        import torch

        gpus = torch.cuda.device_count() if self.trainer.accelerator != "cpu" else 0
        if 0 < gpus < self.trainer.devices:
            raise ValueError(f"trainer.devices={self.trainer.devices}: there are {gpus} GPUs")
        if self.started:
            return self
        if self.trainer.nodes > 1 and None in (
            self.before["MASTER_ADDR"],
            os.environ.get("NODE_RANK"),
        ):
            raise ValueError(
                f"trainer.nodes={self.trainer.nodes} needs MASTER_ADDR, MASTER_PORT and NODE_RANK "
                "in the environment where neither SLURM nor torchrun starts it"
            )
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", str(free_port()))
        os.environ["LOCAL_RANK"] = "0"  # tells Lightning to start none itself
        return self

    def start(self, config: TrainConfig, folder: Path) -> None:
        """Start the others of this machine; they come to the same line."""
        if self.count == 1 or self.started:
            return
        task = json.dumps({"folder": str(folder), "config": dataclasses.asdict(config)})
        for local in range(1, self.trainer.devices):
            words = [sys.executable, "-c", FOLLOW]
            environment = os.environ | {"LOCAL_RANK": str(local)}
            other = subprocess.Popen(words, stdin=subprocess.PIPE, env=environment, text=True)
            self.others.append(other)
            assert other.stdin is not None
            other.stdin.write(task)
            other.stdin.close()

    def leave(self) -> None:
        """Part from the others: from here on each process is alone."""
        if self.count > 1:
            import torch.distributed

            torch.distributed.destroy_process_group()

    def __exit__(self, kind: object, error: BaseException | None, at: object) -> None:
        ended = []
        for number, other in enumerate(self.others, 1):
            try:  # one that has failed breaks the connection, which we see as a RuntimeError
                code = other.wait(10 if error is None or isinstance(error, RuntimeError) else 0)
            except subprocess.TimeoutExpired:
                other.kill()
                other.wait()
                continue
            if code:
                ended.append(f"process {number} of the training has ended with code {code}")
        for name in NAMES if self.count > 1 else ():
            value = self.before[name]
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
        if ended and isinstance(error, RuntimeError):
            raise ValueError(f"{ended[0]}; its own message stands above") from error


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def strategy(config: TrainConfig) -> Any:
    """Return what Lightning's Trainer is to do with so many processes."""
    trainer = config.trainer
    if trainer.devices * trainer.nodes == 1:
        return "auto"
    import warnings

    from pytorch_lightning.strategies import DDPStrategy

    # of maps in channels_last: each process's gradients are copied once more, no more than that
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DDPStrategy(find_unused_parameters=config.recipe.freeze is not None)


def synchronised(config: TrainConfig) -> bool:
    """Tell whether batch normalisation takes its statistics from all processes; warn if not."""
    import torch

    trainer, together = config.trainer, config.trainer.devices * config.trainer.nodes
    on_gpu = trainer.accelerator != "cpu" and torch.cuda.is_available()
    if trainer.sync_batchnorm and (together == 1 or config.model.norm != "batch" or not on_gpu):
        log.warning(
            "trainer.sync_batchnorm=true is ignored: it needs model.norm=batch, trainer.devices "
            "or trainer.nodes above 1, and GPUs"
        )
    elif trainer.sync_batchnorm:
        return True
    if together > 1 and config.model.norm == "batch":
        log.warning(
            "batch normalisation takes its statistics from each process's share of a batch: the "
            "result is not that of one process%s",
            "; trainer.sync_batchnorm=true takes them from all" if on_gpu else "",
        )
    return False


def follow() -> None:
    """Be one of the others: the first process has written the task to our standard input."""
    from omegaconf import OmegaConf

    from toyfcn.cli import output
    from toyfcn.commands.train import train_along
    from toyfcn.runs import resume

    output.keep_open()
    task = json.load(sys.stdin)
    config = resume.typed_config(OmegaConf.create(task["config"]))
    try:
        train_along(config, Path(task["folder"]))
    except Exception as error:
        number = rank(config.trainer)
        print(f"toyfcn-train, process {number}: {resume.first_line(error)}", file=sys.stderr)
        sys.exit(2)
