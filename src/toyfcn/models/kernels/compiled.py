"""Labels and loss of scores in one pass, in C (``labels_and_loss.c``), about five times as fast.

It is compiled where it first runs, in less than a second, by the machine's own C compiler ($CC, or
cc), and kept in the user's cache ($XDG_CACHE_HOME, or ~/.cache). Without a compiler, PyTorch's
operations do the same: labels are equal, a loss is to its last digits.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import math
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)
SOURCE = Path(__file__).with_name("labels_and_loss.c")
# no error codes, no traps: otherwise a compiler makes no vectors of floats that are compared
FLAGS = ["-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-fPIC"]


@cache
def library() -> Any:
    """Return the compiled library, None where it cannot be made, which is told once."""
    command = shlex.split(os.environ.get("CC", "cc"))
    failure: Exception | None = None
    for flags in ([*FLAGS, "-fopenmp"], FLAGS):
        try:
            return compiled_with(command, flags)
        except (OSError, RuntimeError, subprocess.SubprocessError) as error:
            failure = error
    log.info("scoring takes somewhat longer, since nothing can be compiled here: %s", failure)
    return None


def compiled_with(command: list[str], flags: list[str]) -> ctypes.CDLL:
    """Compile the library with a command, unless that is done already, and load it.

    Raises:
        OSError, RuntimeError, SubprocessError: there is no compiler, it fails, the folder cannot
            be written, or there is none.
    """
    if shutil.which(command[0]) is None:
        raise OSError(f"{command[0]}: no such C compiler")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "toyfcn"
    # an instruction set is that of one processor: several machines may share a home
    made_of = SOURCE.read_text(), command, flags, platform.machine(), processor()
    path = folder / f"{hashlib.sha256(repr(made_of).encode()).hexdigest()[:16]}.so"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as temporary:
            made = Path(temporary) / path.name
            # two steps: linked without OpenMP, it uses the threads of PyTorch's own
            run_compiler([*command, *flags, "-c", str(SOURCE), "-o", f"{made}.o"])
            run_compiler([*command, "-shared", f"{made}.o", "-o", str(made)])
            made.replace(path)  # whole, if several processes compile at one time
    return ctypes.CDLL(str(path))


def run_compiler(command: list[str]) -> None:
    """Run a command that takes less than a minute and prints nothing."""
    subprocess.run(command, check=True, capture_output=True, timeout=60)


def processor() -> str:
    """Return what tells processors with other instructions apart, where Linux says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def can_take(scores: Tensor) -> bool:
    """Tell whether scores can be given to ``labels_and_loss``."""
    plain = type(scores) is Tensor and scores.device.type == "cpu"
    return plain and scores.dtype == torch.float32 and library() is not None


def labels_and_loss(
    scores: Tensor,
    labels: Tensor,
    target: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    in_bits: bool = False,
) -> tuple[float, float]:
    """Write the labels of scores, float32 (C, N), to uint8 (N,); return (Σ w·ℓ, Σ w).

    Of equal scores the first label is taken, and 0 where a score is NaN. ``target`` uint8 (N,),
    None: no loss; ``weights`` float32 (256,), one per label. The exponentials are of e, or of 2
    where the scores are ``in_bits``.
    """
    found, count = library(), scores.shape[1]
    assert found is not None and scores.dtype == torch.float32 and scores.stride(1) == 1
    assert labels.dtype == torch.uint8 and labels.numel() == count and labels.is_contiguous()
    sums = (ctypes.c_double * 2)()
    pointers: list[int | None] = [labels.data_ptr(), None, None]
    if target is not None:
        assert weights is not None and len(weights) == 256 and weights.dtype == torch.float32
        assert target.dtype == torch.uint8 and target.numel() == count
        target, weights = target.contiguous(), weights.contiguous()
        pointers = [labels.data_ptr(), target.data_ptr(), weights.data_ptr()]
    found.labels_and_loss(
        ctypes.c_void_p(scores.data_ptr()),
        ctypes.c_int64(scores.stride(0)),
        ctypes.c_int32(len(scores)),
        ctypes.c_int64(count),
        ctypes.c_float(1.0 if in_bits else 1 / math.log(2)),
        *map(ctypes.c_void_p, pointers),
        sums,
    )
    return sums[0], sums[1]
