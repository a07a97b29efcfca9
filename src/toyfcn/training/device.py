"""What a training asks of the machine before it starts: a GPU, threads, memory, a compiler."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from typing import Any

import torch

from toyfcn import hardware
from toyfcn.config.trainer import TrainerConfig

log = logging.getLogger(__name__)


def prepare(trainer: TrainerConfig) -> None:
    """Set up this process for a training: threads, memory, and no advertisements in the log.

    Raises:
        ValueError: a GPU is asked for where PyTorch finds none.
    """
    hardware.use_gpu(trainer.accelerator)
    hardware.set_tf32(trainer.tf32)
    set_deterministic(trainer.deterministic)
    keep_memory(trainer)
    set_threads(trainer)
    # Lightning's tips, and its use of what PyTorch has since renamed
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec", category=Warning)
    # points are logged every so many steps of the run, whatever the length of an epoch
    warnings.filterwarnings("ignore", message=".*smaller than the logging interval")


def set_deterministic(deterministic: bool) -> None:
    """Choose the algorithms of all that follows: pretraining and first scores as well as steps.

    Lightning would choose them once these are done, and a job of a sweep would begin with those of
    the one before.
    """
    if deterministic:  # read by cuBLAS when it is first called
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    # filling fresh memory is a debugging aid of the deterministic mode, and not free
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_threads(trainer: TrainerConfig) -> None:
    """Use as many CPU threads as asked for, or this process's share of the machine's."""
    if trainer.threads:
        torch.set_num_threads(trainer.threads)
    elif trainer.devices > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // trainer.devices))


def keep_memory(trainer: TrainerConfig) -> None:
    """Tell glibc to keep freed memory for the next step, for fresh memory costs page faults.

    ``trainer.reuse_memory`` keeps all of it, ``trainer.keep_mb`` some: blocks of up to 64 MB,
    together up to so many MB. Without either the system does as it always does.
    """
    if trainer.reuse_memory:
        done, asked = hardware.keep_memory((1 << 31) - 1, largest=1 << 30), "reuse_memory=true"
    elif trainer.keep_mb:
        done, asked = hardware.keep_memory(trainer.keep_mb << 20), f"keep_mb={trainer.keep_mb}"
    else:
        return
    if not done and (trainer.reuse_memory or trainer.keep_mb != TrainerConfig.keep_mb):
        log.warning("trainer.%s is ignored: this system's allocator has no mallopt", asked)


def compile_backbone(backbone: Any, accelerator: str, one_size: bool = True) -> None:
    """Compile a backbone in place; what cannot be compiled runs as it is, with a warning.

    ``one_size`` tells whether all photos come in one size; others are warned of: PyTorch compiles
    anew for each size, up to eight, and runs all further ones as they are.

    Scoring is never compiled (see task.py): photos of all sizes, and figures that repeat.
    """
    if not hardware.use_gpu(accelerator) and not any(
        map(shutil.which, ("c++", "g++", "clang++", "clang"))
    ):
        log.warning("trainer.compile=true is ignored: compiling for a CPU needs g++ or clang")
        return
    if not one_size:
        log.warning(
            "trainer.compile=true compiles again for each of up to %d sizes of photos, and further "
            "ones not at all: set data.crop",
            torch._dynamo.config.recompile_limit,
        )
    torch._dynamo.config.suppress_errors = True  # a graph that fails is warned of, and runs eagerly
    backbone.compile(dynamic=False)
