"""What this machine has: the one place that asks whether there is a GPU, and how many processes."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

if sys.platform != "win32":
    import resource


def use_gpu(accelerator: str, option: str = "trainer.accelerator") -> bool:
    """Tell whether ``accelerator`` (auto, cpu or gpu) means a GPU on this machine.

    ``option`` is what asked for it, for the message.

    Raises:
        ValueError: it is gpu, and PyTorch finds none.
    """
    if accelerator == "gpu" and not torch.accelerator.is_available():
        raise ValueError(f"{option}=gpu, but PyTorch finds no GPU here: set {option}=auto or cpu")
    return accelerator != "cpu" and torch.cuda.is_available()


def device(accelerator: str, option: str = "trainer.accelerator") -> torch.device:
    """Return the device that ``accelerator`` (auto, cpu or gpu) means on this machine."""
    return torch.device("cuda" if use_gpu(accelerator, option) else "cpu")


def set_tf32(allowed: bool) -> None:
    """Let a GPU round factors to 10 bits in convolutions and matrix products alike, or in neither.

    PyTorch's own choice is convolutions alone, and a loss that is a matrix product (the fused one)
    would have other last digits than one that is not.
    """
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


@contextmanager
def without_tf32() -> Iterator[None]:
    """Switch TF32 off meanwhile: see ``set_tf32``."""
    places: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [place.allow_tf32 for place in places]
    set_tf32(False)
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


def gpu_count() -> int:
    """Return how many GPUs this process sees."""
    return torch.cuda.device_count()


def free_memory() -> int | None:
    """Return the bytes that are free: of the GPU, or where there is none of the machine.

    None where the system does not tell. A container's limit counts.
    """
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        found = re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())
    except OSError:
        found = None
    if found is None:
        return None
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.is_file() else "max"
    return min(1024 * int(found[1]), int(text) if text.isdigit() else sys.maxsize)


def peak_memory() -> int | None:
    """Return the most bytes so far: of tensors on the GPU, or where there is none of the process.

    None where the system does not tell.
    """
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def keep_memory(kept: int, largest: int = 64 << 20) -> bool:
    """Let glibc keep freed memory, for fresh memory costs page faults; tell whether it does.

    It keeps up to ``kept`` bytes, in blocks of up to ``largest``.
    """
    trim_threshold, mmap_threshold = -1, -3  # of mallopt(3)
    try:
        libc = ctypes.CDLL("libc.so.6")
        return bool(libc.mallopt(mmap_threshold, largest) and libc.mallopt(trim_threshold, kept))
    except (OSError, AttributeError):
        return False


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those of its children that have ended."""
    return sum(os.times()[:4])


def process_count() -> int:
    """Return how many processes train together now; 1 outside a training of several."""
    alone = not torch.distributed.is_initialized()
    return 1 if alone else torch.distributed.get_world_size()


def describe() -> dict[str, Any]:
    """Return what run.json tells about this machine."""
    return {
        "machine": platform.machine(),
        "system": platform.system(),
        "cpu_cores": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
