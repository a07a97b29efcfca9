"""One variant of a training step of the FCN-LeNet, timed in a process of its own.

    python benchmarks/step.py VARIANT [--height 375 --width 500 --batch 8 --steps 7]

Prints one line of JSON: ms an image (median), the peak of memory above what the process held
before the step, and the speed of a float32 matrix product measured between the steps. Each variant
needs its own process, because the allocator's settings cannot be undone. ``bench.py`` calls them in
turns, ours with GLIBC_TUNABLES as `make train` sets it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from losses import CLASSES, LOSSES, VOID, gflop_an_image, network
from torch import Tensor, nn

from toyfcn.config.model import ModelConfig
from toyfcn.config.trainer import TrainerConfig
from toyfcn.models.fcn import FCN
from toyfcn.models.lenet import LeNetBackbone
from toyfcn.training.device import keep_memory


@dataclass(frozen=True)
class Variant:
    """A variant of the step.

    ``reuse`` and ``keep``: freed memory is kept, all of it or up to trainer.keep_mb.
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
    size, taken = 1536, []
    a, b = torch.rand(size, size), torch.rand(size, size)
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, b)
        taken.append(time.perf_counter() - start)
    return 2 * size**3 / min(taken) / 1e9


def memory(field: str) -> float:
    """Return MB of this process as the kernel counts them: VmRSS (now) or VmHWM (peak)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    return float("nan")


def prepare(variant: Variant) -> FCN:
    """Set the allocator, and make the variant's network."""
    naive = variant.loss in ("naive", "torchfcn")
    if variant.reuse or not naive:
        kept = TrainerConfig().keep_mb if variant.keep else 0
        keep_memory(TrainerConfig(reuse_memory=variant.reuse, keep_mb=kept))
    torch.manual_seed(0)
    config = ModelConfig(stride=4, upsample=variant.upsample)
    if variant.classic:
        config = replace(config, activation="tanh", norm="none")
    net = network(config).train()
    if naive:
        net = net.to(memory_format=torch.contiguous_format)
        backbone = net.backbone
        assert isinstance(backbone, LeNetBackbone)
        for block in (backbone.c1_s2, backbone.c3_s4):
            block[1] = nn.MaxPool2d(2, ceil_mode=True)
    if variant.compiled:
        net.backbone.compile(dynamic=False)
    return net


def stepper(net: FCN, variant: Variant) -> Callable[[Tensor, Tensor], None]:
    """Return what takes a training step on a batch of photos and targets."""
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)

    def step(image: Tensor, target: Tensor) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=variant.half):
            value = LOSSES[variant.loss](net, image, target)
        torch.autograd.backward(value)
        optimizer.step()
        optimizer.zero_grad()

    return step


def measure(variant: Variant, size: tuple[int, int], batch: int, steps: int) -> dict[str, float]:
    """Take steps; return ms an image, the memory's peak in MB, GFLOP an image and GFLOP/s."""
    net = prepare(variant)
    step = stepper(net, variant)
    image = torch.randint(0, 256, (batch, 3, *size), dtype=torch.uint8)
    target = torch.randint(0, CLASSES, (batch, *size), dtype=torch.uint8)
    target[:, :, ::20] = VOID
    if not variant.compiled:  # load libraries and allocate moments before memory is measured
        step(image[:2, :, :32, :32], target[:2, :32, :32])
    before = memory("VmRSS")
    try:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    except OSError:
        before = float("nan")
    for _ in range(4):  # until the allocator has what it needs
        step(image, target)
    taken, speeds = [], []
    for _ in range(steps):
        start = time.perf_counter()
        step(image, target)
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
    if args.threads:
        torch.set_num_threads(args.threads)
    size = args.height, args.width
    print(json.dumps(measure(VARIANTS[args.variant], size, args.batch, args.steps)))


if __name__ == "__main__":
    main()
