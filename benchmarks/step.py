"""One way to take a training step of the FCN-LeNet, timed in a process of its own.

    python benchmarks/step.py VARIANT [--height 375 --width 500 --batch 8 --steps 7]

Prints one line of JSON: ms an image (median), the peak of memory above what the process held
before the step, and the speed of a float32 matrix product measured between the steps. A process
each, because what the allocator is told cannot be taken back. ``bench.py`` calls it in turns.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imported late: a process may start anew before
    from torch import Tensor


@dataclass(frozen=True)
class Variant:
    """A way to take the step.

    ``reuse`` and ``keep``: freed memory is kept, all of it or what trainer.keep_mb says.
    ``classic``: LeNet's own layers, without batch normalisation. ``loss``: one of losses.py.
    """

    loss: str
    upsample: str
    reuse: bool = False
    keep: bool = True
    classic: bool = False
    half: bool = False
    compiled: bool = False


VARIANTS = {
    "naive": Variant("naive", "dense"),
    "naive, memory reuse": Variant("naive", "dense", reuse=True),
    "torchfcn's loss and figures": Variant("torchfcn", "dense"),
    "ours, plain formulation": Variant("plain", "channel"),
    "ours": Variant("fused", "channel"),
    "ours, memory given back": Variant("fused", "channel", keep=False),
    "ours, memory reuse": Variant("fused", "channel", reuse=True),
    "ours, dense": Variant("fused", "dense"),
    "ours, dense, memory reuse": Variant("fused", "dense", reuse=True),
    "classic, naive": Variant("naive", "dense", classic=True),
    "classic, ours": Variant("fused", "channel", classic=True),
    "classic, ours, memory reuse": Variant("fused", "channel", reuse=True, classic=True),
    "classic, ours, dense, memory reuse": Variant("fused", "dense", reuse=True, classic=True),
    "ours, bf16, memory reuse": Variant("fused", "channel", reuse=True, half=True),
    "ours, compiled, memory reuse": Variant("fused", "channel", reuse=True, compiled=True),
}


def matrix_speed(repeats: int = 5) -> float:
    """Return GFLOP/s of a float32 matrix product: the limit of the step's arithmetic."""
    import torch

    size, taken = 1536, []
    a, b = torch.rand(size, size), torch.rand(size, size)
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken) / 1e9


def memory(field: str) -> float:
    """Return MB of this process from the kernel's account: VmRSS (now) or VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def measure(
    variant: str, size: tuple[int, int], batch: int, steps: int, threads: int | None = None
) -> dict[str, float]:
    """Take steps; return ms an image, the memory's peak in MB, GFLOP an image and GFLOP/s."""
    way = VARIANTS[variant]
    naively = way.loss in ("naive", "torchfcn")
    import torch
    from losses import CLASSES, LOSSES, VOID, gflop_an_image, network
    from torch import nn

    from toyfcn.config.model import ModelConfig
    from toyfcn.config.trainer import TrainerConfig
    from toyfcn.models.lenet import LeNetBackbone
    from toyfcn.training.device import keep_memory

    if way.reuse or not naively:
        default = TrainerConfig().keep_mb
        keep_memory(TrainerConfig(reuse_memory=way.reuse, keep_mb=default if way.keep else 0))
    if threads:
        torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = ModelConfig(stride=4, upsample=way.upsample)
    if way.classic:
        config = replace(config, activation="tanh", norm="none")
    net = network(config).train()
    if naively:
        net = net.to(memory_format=torch.contiguous_format)
        assert isinstance(net.backbone, LeNetBackbone)
        for block in (net.backbone.c1_s2, net.backbone.c3_s4):
            block[1] = nn.MaxPool2d(2, ceil_mode=True)
    if way.compiled:
        net.backbone.compile(dynamic=False)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    image = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)
    truth = torch.randint(0, CLASSES, (batch, *size), dtype=torch.uint8)
    truth[:, :, ::20] = VOID

    def step(image: Tensor, truth: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=way.half):
            value = LOSSES[way.loss](net, image, truth)
        torch.autograd.backward(value)
        optimizer.step()
        optimizer.zero_grad()

    if not way.compiled:  # libraries loaded and moments made before memory is counted
        step(image[:2, :, :32, :32], truth[:2, :32, :32])
    before = memory("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    except OSError:
        before = float("nan")
    for _ in range(4):  # until the allocator has what it needs
        step(image, truth)
    taken, speeds = [], []
    for _ in range(steps):
        start = time.perf_counter()
        step(image, truth)
        taken.append(time.perf_counter() - start)
        speeds.append(matrix_speed(2))
    return {
        "ms_an_image": 1000 * statistics.median(taken) / batch,
        "peak_mb": memory("VmHWM") - before,
        "gflop_an_image": gflop_an_image(net, image[:1]),
        "gflops": statistics.median(speeds),
    }


def main() -> None:
    """Measure the variant that the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("variant", choices=VARIANTS)
    parser.add_argument("--height", type=int, default=375)
    parser.add_argument("--width", type=int, default=500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--threads", type=int, help="default: PyTorch's choice")
    args = parser.parse_args()
    size = args.height, args.width
    print(json.dumps(measure(args.variant, size, args.batch, args.steps, args.threads)))


if __name__ == "__main__":
    main()
