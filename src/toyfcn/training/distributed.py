"""Several processes that train together (trainer=ddp): which one this is, and who starts them.

torchrun and srun start a process for each device themselves, and each runs toyfcn-train. Otherwise
torch's elastic agent starts them here. Only the first process writes the run's files.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
import uuid
import warnings
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
import torch.distributed
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from toyfcn import hardware
from toyfcn.config.commands import TrainConfig
from toyfcn.config.trainer import TrainerConfig
from toyfcn.runs.interrupt import SIGNALS, Interrupted
from toyfcn.runs.run import FORMAT, Run
from toyfcn.text import first_line

log = logging.getLogger(__name__)

PATIENCE = 600  # seconds that processes have to save before they are killed
Job = Callable[[TrainConfig, Run], dict[str, Any]]


def rank(trainer: TrainerConfig) -> int:
    """Return the number of this process among all that train together, the first being 0."""
    if trainer.processes == 1:
        return 0
    return int(os.environ.get("RANK") or os.environ.get("SLURM_PROCID") or 0)


def started_elsewhere() -> bool:
    """Tell whether torchrun, srun or our own agent has started this process and the others."""
    by_hand = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")  # as Lightning sees it
    return "LOCAL_RANK" in os.environ or ("SLURM_NTASKS" in os.environ and not by_hand)


def check(trainer: TrainerConfig, run: Run) -> None:
    """Check that several processes can start, and that they work in one folder.

    Raises:
        ValueError: too few GPUs, no address of the first machine, or no folder for all.
    """
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if started_elsewhere() and tasks != "1" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise ValueError(
            f"SLURM starts {tasks} processes, which on each machine it does not say: give srun or "
            f"sbatch --ntasks-per-node={trainer.devices} and --nodes={trainer.nodes}, not --ntasks"
        )
    if trainer.processes == 1:
        return
    gpus = hardware.gpu_count() if hardware.use_gpu(trainer.accelerator) else 0
    if 0 < gpus < trainer.devices:
        raise ValueError(f"trainer.devices={trainer.devices}: there are {gpus} GPUs")
    if (trainer.nodes > 1 or started_elsewhere()) and not run.named:
        raise ValueError("several processes need one folder: set hydra.run.dir=FOLDER for all")
    needed = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if trainer.nodes > 1 and not started_elsewhere() and not {*needed} <= {*os.environ}:
        raise ValueError(
            f"trainer.nodes={trainer.nodes} needs {', '.join(needed)} in the environment where "
            "neither SLURM nor torchrun starts it"
        )


def launch(job: Job, config: TrainConfig, run: Run) -> dict[str, Any]:
    """Run ``job`` in a process for each device of this machine; return what the first returns.

    Raises:
        Interrupted: a signal has ended them, after the first has saved.
        ValueError: one has failed; its own message was printed.
    """
    trainer, single = config.trainer, config.trainer.nodes == 1
    master = "{MASTER_ADDR}:{MASTER_PORT}".format_map({**os.environ}) if not single else ""
    settings = LaunchConfig(
        min_nodes=trainer.nodes,
        max_nodes=trainer.nodes,
        nproc_per_node=trainer.devices,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d" if single else "static",
        rdzv_endpoint="127.0.0.1:0" if single else master,
        rdzv_configs={} if single else {"rank": int(os.environ["NODE_RANK"])},
        local_addr="127.0.0.1" if single else None,
        max_restarts=0,
        # Ctrl+C reaches all of them from the terminal, and a second one would end them unsaved
        signals_to_handle=",".join(s.name for s in SIGNALS if s.name != "SIGINT"),
        shutdown_timeout=PATIENCE,
    )
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    try:
        returned: dict[int, dict[str, Any]] = elastic_launch(settings, process)(job, config, run)
    except SignalException as error:
        raise Interrupted(error.sigval) from None
    except ChildFailedError as error:
        number, failure = error.get_first_failure()
        if failure.exitcode > 128:
            raise Interrupted(failure.exitcode - 128) from None
        raise ValueError(
            f"process {number} of the training has ended with code {failure.exitcode}; its own "
            "message stands above"
        ) from None
    return returned.get(0, {})


def process(job: Job, config: TrainConfig, run: Run) -> dict[str, Any]:
    """Be one of the processes: ``job`` in here, and what goes wrong in one line."""
    number = rank(config.trainer)
    if number == 0:
        logging.basicConfig(format=FORMAT, datefmt="%H:%M:%S", stream=sys.stdout, level="INFO")
    try:
        return job(config, run)
    except (ValueError, RuntimeError, OSError) as error:
        print(f"toyfcn-train, process {number}: {first_line(error, 400)}", file=sys.stderr)
        sys.exit(2)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def leave() -> None:
    """Part from the other processes: from here on this one is alone."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def strategy(config: TrainConfig) -> Any:
    """Return Lightning's strategy for so many processes."""
    if config.trainer.processes == 1:
        return "auto"
    # of maps in channels_last: each process's gradients are copied once more, no more than that
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    return DDPStrategy(
        find_unused_parameters=config.recipe.freeze is not None, timeout=timedelta(minutes=10)
    )


class AbortOnFailure(Callback):
    """Lets a process that fails end: on GPUs it would wait for the others in its clean-up.

    They wait for its part of an operation, which never comes, and are ended by who started them.
    """

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Give up what GPUs have begun together."""
        together = trainer.world_size > 1 and torch.distributed.is_initialized()
        failed = together and not isinstance(exception, Interrupted)
        if failed and torch.distributed.get_backend() == "nccl":
            torch.distributed.distributed_c10d._abort_process_group()


def synchronized(config: TrainConfig, images: int) -> bool:
    """Tell whether batch normalization takes its statistics from all processes; warn if not.

    Raises:
        ValueError: of so many images, a batch is left with fewer than there are processes: those
            without a share would be missing where the others gather their statistics.
    """
    trainer, together = config.trainer, config.trainer.processes
    on_gpu = hardware.use_gpu(trainer.accelerator)
    if trainer.sync_batchnorm and (together == 1 or config.model.norm != "batch" or not on_gpu):
        log.warning(
            "trainer.sync_batchnorm=true is ignored: it needs model.norm=batch, trainer.devices "
            "or trainer.nodes above 1, and GPUs"
        )
    elif trainer.sync_batchnorm:
        size, rest = config.data.batch_size, images % config.data.batch_size
        smallest = rest if rest and config.data.sampling != "uniform" else size
        if smallest < together:
            raise ValueError(
                f"trainer.sync_batchnorm=true needs a photo of every batch for each of {together} "
                f"processes: data.batch_size={size} leaves {smallest} of {images} photos to one"
            )
        return True
    if together > 1 and config.model.norm == "batch":
        log.warning(
            "batch normalization takes its statistics from each process's share of a batch: the "
            "result is not that of one process%s",
            "; trainer.sync_batchnorm=true takes them from all" if on_gpu else "",
        )
    return False
