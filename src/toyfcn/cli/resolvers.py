"""What the YAML files may compute: ${short_id:}, ${window:…}, ${jobs_at_once:} and the like.

Jobs of a sweep may be composed in other processes, so launch.py registers these when imported.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from omegaconf import OmegaConf

from toyfcn.config.model import NOT_OF


def register() -> None:
    """Make the resolvers known to OmegaConf."""
    new = OmegaConf.register_new_resolver
    new("short_id", lambda: secrets.token_hex(2), use_cache=True, replace=True)
    new("either", lambda first, second: second if first is None else first, replace=True)
    new("window", window, replace=True)
    new("narrow", narrow, replace=True)
    new("jobs_at_once", jobs_at_once, replace=True)
    new("gpus_a_job", lambda: min(1, len(gpus())), replace=True)
    new("gpu_of_job", gpu_of_job, replace=True)


def narrow(model: str) -> float:
    """Return a model.width for a quick trial: networks of libraries and of one's own have none."""
    return 1.0 if "width" in NOT_OF[model] else 0.25


def window(short_side: int | None) -> list[int] | None:
    """Return a data.crop [height, width] for a short side: as high, and a quarter wider."""
    return None if short_side is None else [short_side, round(short_side * 5 / 4)]


def gpus() -> list[str]:
    """Return the names of the GPUs that this process may use, without importing torch."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return [name.strip() for name in allowed.split(",") if name.strip() not in ("", "-1")]
    return [str(i) for i in range(len(list(Path("/dev").glob("nvidia[0-9]*"))))]


def jobs_at_once() -> int:
    """One job a GPU, or a CPU core where there is none."""
    return len(gpus()) or len(os.sched_getaffinity(0))


def gpu_of_job(job: int | None) -> str:
    """Return the GPU that a job gets, in turn: a value of CUDA_VISIBLE_DEVICES ("": none).

    Outside a sweep (None) that is all of them.
    """
    names = gpus()
    if job is None:
        return ",".join(names)
    return names[int(job) % len(names)] if names else ""
