"""Our layers for channels_last maps beside PyTorch's, and 1x1 convolutions: a step of each alone.

    python benchmarks/layers.py [--batch 8 --repeats 9]

Forward and backward pass with the sizes in FCN-LeNet, classic and wide, and U-Net at 375x500; 1x1
convolutions of EfficientNet-Lite0 at 224x224, with all threads and with one, as ``choose_kernels``
leaves them. In one process, interleaved; medians. Ratios above 1: ours is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn

from toyfcn.config.trainer import TrainerConfig
from toyfcn.models.kernels.by_device import choose_kernels
from toyfcn.models.kernels.channels_last import BatchNorm, Convolution
from toyfcn.training.device import keep_memory

CONVOLUTIONS = {  # inputs, outputs, kernel, height, width
    "C5": (16, 120, 5, 94, 125),
    "C3, wide": (16, 48, 5, 188, 250),
    "C5, wide": (48, 128, 5, 94, 125),
    "U-Net, third level": (40, 40, 3, 94, 125),
}
POINTWISE = {"first": (32, 16, 112, 112), "middle": (80, 480, 14, 14), "last": (320, 1280, 7, 7)}
NORMS = {"S2": (6, 188, 250), "U-Net, first level": (10, 375, 500)}  # channels, height, width


def seconds(layer: nn.Module, x: Tensor, grad: Tensor) -> float:
    """Time a forward and a backward pass."""
    start = time.perf_counter()
    torch.autograd.backward(layer(x), grad)
    return time.perf_counter() - start


def compare(name: str, ours: nn.Module, plain: nn.Module, x: Tensor, repeats: int) -> None:
    """Print both layers' ms and their ratio."""
    x = x.contiguous(memory_format=torch.channels_last).requires_grad_()
    ours, plain = (layer.to(memory_format=torch.channels_last) for layer in (ours, plain))
    grad = torch.randn_like(ours(x))
    taken = [(seconds(ours, x, grad), seconds(plain, x, grad)) for _ in range(repeats + 1)][1:]
    fast, slow = (1000 * statistics.median(times) for times in zip(*taken, strict=True))
    print(f"{name:40s} ours {fast:6.1f} ms, PyTorch's {slow:6.1f} ms, ratio {slow / fast:.2f}")


def main() -> None:
    """Compare all layers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=9)
    args = parser.parse_args()
    keep_memory(TrainerConfig(reuse_memory=True))
    torch.manual_seed(0)
    for name, (inputs, outputs, kernel, *size) in CONVOLUTIONS.items():
        x, padding = torch.randn(args.batch, inputs, *size), kernel // 2
        ours = Convolution(inputs, outputs, kernel, padding, bias=False)
        plain = nn.Conv2d(inputs, outputs, kernel, padding=padding, bias=False)
        compare(f"convolution {name}", ours, plain, x, args.repeats)
    for name, (channels, *size) in NORMS.items():
        x = torch.randn(args.batch, channels, *size)
        compare(f"norm {name}", BatchNorm(channels), nn.BatchNorm2d(channels), x, args.repeats)
    for threads in (torch.get_num_threads(), 1):
        torch.set_num_threads(threads)
        for name, (inputs, outputs, *size) in POINTWISE.items():
            x = torch.randn(args.batch, inputs, *size)
            layer, plain = nn.Conv2d(inputs, outputs, 1), nn.Conv2d(inputs, outputs, 1)
            choose_kernels(layer, x.device)
            compare(f"1x1 convolution {name}, threads {threads}", layer, plain, x, args.repeats)


if __name__ == "__main__":
    main()
