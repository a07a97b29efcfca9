"""What this machine has: the one place that asks whether there is a GPU, and how many processes."""

from __future__ import annotations

import torch


def use_gpu(accelerator: str) -> bool:
    """Tell whether ``accelerator`` (auto, cpu or gpu) means a GPU on this machine.

    Raises:
        ValueError: it is gpu, and PyTorch finds none.
    """
    if accelerator == "gpu" and not torch.accelerator.is_available():
        raise ValueError(
            "trainer.accelerator=gpu, but PyTorch finds no GPU here: set trainer.accelerator=auto "
            "or cpu"
        )
    return accelerator != "cpu" and torch.cuda.is_available()


def device(accelerator: str) -> torch.device:
    """Return the device that ``accelerator`` (auto, cpu or gpu) means on this machine."""
    return torch.device("cuda" if use_gpu(accelerator) else "cpu")


def gpu_count() -> int:
    """Return how many GPUs this process sees."""
    return torch.cuda.device_count()


def process_count() -> int:
    """Return how many processes train together now; 1 outside a training of several."""
    alone = not torch.distributed.is_initialized()
    return 1 if alone else torch.distributed.get_world_size()
